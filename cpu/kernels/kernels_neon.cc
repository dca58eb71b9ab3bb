#include "cpu/kernels/kernels.h"
#include "cpu/kernels/simd_neon.h"
//
#include "cpu/kernels/kernels.inl.h"
