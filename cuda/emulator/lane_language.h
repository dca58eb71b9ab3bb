// What kernels' code calls: meeting points of lanes, shared memory, asynchronous copies, atomics.
// Only from inside a kernel; every call names its place in the source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace pelton::cuda::emulator {

using Site = std::source_location;

// --- the block ---
void syncthreads(Site site);
enum class BarrierVote { kCount, kAnd, kOr };
int syncthreads_vote(BarrierVote vote, bool predicate, Site site);
// Threads is a multiple of the warp size; ids 1 to 15 (0 is __syncthreads).
void named_barrier_sync(int id, int threads, Site site);
void named_barrier_arrive(int id, int threads, Site site);
void fence(Site site);

// --- the warp: all lanes of `mask` meet ---
enum class ShuffleMode { kIndex, kUp, kDown, kXor };
void syncwarp(uint32_t mask, Site site);
uint64_t shuffle(uint32_t mask, ShuffleMode mode, uint64_t value, int operand, int width,
                 Site site);
uint32_t ballot(uint32_t mask, bool predicate, Site site);
uint32_t match_any(uint32_t mask, uint64_t value, Site site);
enum class Reduction { kAdd, kMin, kMax, kAnd, kOr, kXor };
uint32_t reduce_unsigned(uint32_t mask, Reduction reduction, uint32_t value, Site site);
int32_t reduce_signed(uint32_t mask, Reduction reduction, int32_t value, Site site);
uint32_t active_mask();
unsigned lane_id();

// --- matrix instructions: the whole warp meets ---
void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, Site site);
void mma_m16n8k16_f16(float* d, const uint32_t* a, const uint32_t* b, Site site);
void mma_m16n8k32_s8(int32_t* d, const uint32_t* a, const uint32_t* b, Site site);
void mma_m16n8k32_e4m3(float* d, const uint32_t* a, const uint32_t* b, Site site);
// `matrices` is 1, 2 or 4; `row` is this lane's row address.
void ldmatrix(uint32_t* d, int matrices, bool transposed, const void* row, Site site);

// --- asynchronous copies ---
// `bytes` of the target (4, 8 or 16) are 0xFF until the wait; without `valid` they become zero.
void async_copy(void* shared, const void* global, int bytes, bool valid, Site site);
void async_commit();
void async_wait(int groups_left, Site site);

// --- memory ---
// A fault unless the address is a multiple of `bytes`.
void check_aligned(const void* pointer, size_t bytes, Site site);
// What an atomic does to its word. `site` is where it stands.
enum class Atomic { kAdd, kMin, kMax, kAnd, kOr, kXor, kExchange };
uint32_t atomic_unsigned(uint32_t* word, Atomic operation, uint32_t value, Site site);
int32_t atomic_signed(int32_t* word, Atomic operation, int32_t value, Site site);
uint64_t atomic_unsigned64(uint64_t* word, Atomic operation, uint64_t value, Site site);
float atomic_add_float(float* word, float value, Site site);
double atomic_add_double(double* word, double value, Site site);
uint32_t atomic_compare_exchange(uint32_t* word, uint32_t expected, uint32_t value, Site site);
uint64_t atomic_compare_exchange64(uint64_t* word, uint64_t expected, uint64_t value, Site site);

// One PELTON_SHARED; its address differs from block to block.
struct SharedArray {
  const char* name;
  size_t bytes;
  size_t alignment;
};
void* shared_array(const SharedArray& array);
void* dynamic_shared();

[[noreturn]] void trap(Site site);

}  // namespace pelton::cuda::emulator
