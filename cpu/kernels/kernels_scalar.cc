#include "cpu/kernels/kernels.h"
#include "cpu/kernels/simd_scalar.h"
//
#include "cpu/kernels/kernels.inl.h"
