#include "cpu/kernels/kernels.h"
#include "cpu/kernels/simd_avx512.h"
//
#include "cpu/kernels/kernels.inl.h"
