// The card, and its ceilings: bytes copied and read, bf16 matrix rate, a launch's time in a graph.
#include <cuda_runtime.h>
#include <fmt/format.h>

#include "bench/gpu_check/check_context.h"
#include "bench/gpu_check/device_time.h"
#include "cuda/kernels/ceilings.h"
#include "cuda/library_gemm.h"

namespace pelton::bench {
namespace {

using cuda::ElementType;

Status add_properties(PartReport& report) {
  cudaDeviceProp card;
  int driver = 0, runtime = 0;
  PELTON_RETURN_IF_ERROR(cuda_error(cudaGetDeviceProperties(&card, 0), "properties"));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaDriverGetVersion(&driver), "driver"));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaRuntimeGetVersion(&runtime), "runtime"));
  CheckRow row;
  row.name = "card";
  row.note = fmt::format("{}, sm_{}{}, {} multiprocessors, {:.1f} GiB, L2 {} MiB{}", card.name,
                         card.major, card.minor, card.multiProcessorCount,
                         static_cast<double>(card.totalGlobalMem) / (1LL << 30),
                         card.l2CacheSize >> 20, kEmulated ? "; times mean nothing" : "");
  report.add(row);
  row.name = "driver and runtime";
  row.note = fmt::format("CUDA {}.{} and {}.{}", driver / 1000, driver % 1000 / 10, runtime / 1000,
                         runtime % 1000 / 10);
  report.add(row);
  return Status();
}

Status measure_bytes(const CheckContext& context, DeviceTimer& timer, PartReport& report) {
  const int64_t bytes = context.quick ? 1 << 16 : int64_t{1} << 30;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory from, device_memory(bytes));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory to, device_memory(bytes));
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory sink, device_memory(4));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaMemset(from.get(), 1, bytes), "memset"));
  const auto rate = [&](bool copy) -> StatusOr<double> {
    cuda::MoveBytesParams p;
    p.from = from.get();
    p.to = copy ? to.get() : nullptr;
    p.bytes = bytes;
    p.sink = static_cast<uint32_t*>(sink.get());
    if (context.quick) p.blocks = 2;
    PELTON_ASSIGN_OR_RETURN(const double us,
                            timer.microseconds(1, context.quick ? 1 : 20, [&](int, cudaStream_t s) {
                              return cuda::move_bytes(p, s);
                            }));
    return (copy ? 2e-3 : 1e-3) * static_cast<double>(bytes) / us;
  };
  CheckRow row;
  row.unit = "GB/s";
  PELTON_ASSIGN_OR_RETURN(row.value, rate(true));
  row.name = "copy bandwidth";
  row.note = "bytes read and written";
  report.add(row);
  PELTON_ASSIGN_OR_RETURN(row.value, rate(false));
  row.name = "read bandwidth";
  row.note.clear();
  report.add(row);
  PELTON_ASSIGN_OR_RETURN(
      const double us, timer.microseconds(1, context.quick ? 1 : 10, [&](int, cudaStream_t s) {
        return cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, s);
      }));
  row.value = 2e-3 * static_cast<double>(bytes) / us;
  row.name = "copy bandwidth of the driver";
  report.add(row);
  return Status();
}

Status measure_matrix_rate(const CheckContext& context, DeviceTimer& timer, PartReport& report) {
  cudaDeviceProp card;
  PELTON_RETURN_IF_ERROR(cuda_error(cudaGetDeviceProperties(&card, 0), "properties"));
  const int blocks = context.quick ? 1 : card.multiProcessorCount * 4;
  const int rounds = context.quick ? 1 : 20000;
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory sink, device_memory(int64_t{4} * blocks));
  PELTON_ASSIGN_OR_RETURN(const double us,
                          timer.microseconds(1, context.quick ? 1 : 5, [&](int, cudaStream_t s) {
                            return cuda::mma_rate(ElementType::kBF16, blocks, rounds,
                                                  static_cast<float*>(sink.get()), s);
                          }));
  CheckRow row;
  row.name = "bf16 matrix rate by mma.sync";
  row.unit = "TFLOP/s";
  row.value = 1e-6 * static_cast<double>(cuda::mma_rate_operations(blocks, rounds)) / us;
  report.add(row);
  return Status();
}

// What the card's own matrix instructions give, as its library uses them.
Status measure_library_rate(const CheckContext& context, DeviceTimer& timer, PartReport& report) {
  CheckRow row;
  row.name = "bf16 matrix rate by cuBLASLt";
  const StatusOr<const cuda::CublasLt*> library = cuda::open_cublaslt();
  if (!library.ok()) {
    row.note = "not there: not measured";
    report.add(row);
    return Status();
  }
  const int size = context.quick ? 64 : 8192;
  PELTON_ASSIGN_OR_RETURN(
      const auto arena,
      cuda::DeviceArena::take(int64_t{10} * size * size + (int64_t{64} << 20), false));
  PELTON_ASSIGN_OR_RETURN(const auto gemm, cuda::LibraryGemm::make(**library, ElementType::kBF16,
                                                                   timer.stream(), "", ""));
  const int64_t bytes = int64_t{2} * size * size;
  PELTON_ASSIGN_OR_RETURN(const cuda::DevicePiece w, arena->allocate(bytes));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaMemset(w.data(), 0x3c, bytes), "memset"));
  PELTON_RETURN_IF_ERROR(gemm->tune({size, size, false}, w.data(), size, arena));
  PELTON_RETURN_IF_ERROR(gemm->reserve(arena));
  PELTON_ASSIGN_OR_RETURN(const cuda::DevicePiece x, arena->allocate(bytes));
  PELTON_ASSIGN_OR_RETURN(const cuda::DevicePiece out, arena->allocate(bytes));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaMemset(x.data(), 0x3c, bytes), "memset"));
  cuda::LinearParams p;
  p.weights = w.data();
  p.x = x.data();
  p.out = out.data();
  p.x_stride = p.out_stride = p.m = p.n = p.k = size;
  bool chosen = true;
  PELTON_ASSIGN_OR_RETURN(const double us,
                          timer.microseconds(1, context.quick ? 1 : 5, [&](int, cudaStream_t) {
                            const StatusOr<bool> done = gemm->run(p);
                            chosen = chosen && done.ok() && *done;
                            return done.ok() ? cudaSuccess : cudaErrorUnknown;
                          }));
  if (chosen) {
    row.unit = "TFLOP/s";
    row.value = 2e-6 * size * static_cast<double>(size) * size / us;
    row.note = fmt::format("{} cubed", size);
  } else {
    row.note = "slower than the own kernels: not used";
  }
  report.add(row);
  return Status();
}

Status measure_launch(const CheckContext& context, DeviceTimer& timer, PartReport& report) {
  PELTON_ASSIGN_OR_RETURN(const DeviceMemory sink, device_memory(4));
  PELTON_ASSIGN_OR_RETURN(
      const double us,
      timer.microseconds(context.quick ? 2 : 200, context.quick ? 1 : 10, [&](int, cudaStream_t s) {
        return cuda::mma_rate(ElementType::kBF16, 1, 0, static_cast<float*>(sink.get()), s);
      }));
  CheckRow row;
  row.name = "an empty kernel in a graph";
  row.unit = "us";
  row.value = us;
  report.add(row);
  return Status();
}

}  // namespace

Status check_card(const CheckContext& context, PartReport& report) {
  PELTON_RETURN_IF_ERROR(add_properties(report));
  PELTON_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceTimer> timer, DeviceTimer::make());
  PELTON_RETURN_IF_ERROR(measure_bytes(context, *timer, report));
  PELTON_RETURN_IF_ERROR(measure_matrix_rate(context, *timer, report));
  PELTON_RETURN_IF_ERROR(measure_library_rate(context, *timer, report));
  return measure_launch(context, *timer, report);
}

}  // namespace pelton::bench
