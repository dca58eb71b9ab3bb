// Each kernel's time beside the least that its bytes and operations take at this card's ceilings.
#include <fmt/format.h>

#include <algorithm>

#include "bench/gpu_check/kernel_cases.h"
#include "cuda/kernels/sample_tokens.h"

namespace pelton::bench {

StatusOr<DeviceMemory> filled(int64_t bytes, int value) {
  PELTON_ASSIGN_OR_RETURN(DeviceMemory memory, device_memory(std::max<int64_t>(bytes, 16)));
  PELTON_RETURN_IF_ERROR(cuda_error(cudaMemset(memory.get(), value, bytes), "memset"));
  return memory;
}

StatusOr<DeviceMemory> uploaded(const std::vector<int32_t>& values) {
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(int32_t));
  PELTON_ASSIGN_OR_RETURN(DeviceMemory memory, device_memory(bytes));
  PELTON_RETURN_IF_ERROR(
      cuda_error(cudaMemcpy(memory.get(), values.data(), bytes, cudaMemcpyHostToDevice), "upload"));
  return memory;
}

Status sampling_cases(const CheckContext& context, const MeasureCase& measure) {
  const int vocab = context.quick ? 300 : 128256;
  const std::vector<int> row_counts =
      context.quick ? std::vector<int>{2} : std::vector<int>{1, 64, 256};
  for (const int rows : row_counts) {
    PELTON_ASSIGN_OR_RETURN(const DeviceMemory logits, filled(int64_t{4} * rows * vocab, 0x3c));
    PELTON_ASSIGN_OR_RETURN(const DeviceMemory tokens, filled(int64_t{4} * rows, 0));
    PELTON_ASSIGN_OR_RETURN(const DeviceMemory results,
                            filled(static_cast<int64_t>(sizeof(cuda::SampleResult)) * rows, 0));
    PELTON_ASSIGN_OR_RETURN(const DeviceMemory workspace,
                            filled(cuda::sample_workspace_bytes(rows, vocab), 0));
    for (const bool greedy : {true, false}) {
      std::vector<cuda::SampleTask> tasks(rows);
      for (int i = 0; i < rows; ++i) {
        tasks[i].logit_row = i;
        tasks[i].temperature = greedy ? 0.0F : 0.8F;
        tasks[i].top_p = greedy ? 1.0F : 0.95F;
        tasks[i].top_k = greedy ? 0 : 40;
        tasks[i].uniform = 0.5F;
      }
      const auto bytes = static_cast<int64_t>(tasks.size() * sizeof(cuda::SampleTask));
      PELTON_ASSIGN_OR_RETURN(const DeviceMemory device_tasks, device_memory(bytes));
      PELTON_RETURN_IF_ERROR(cuda_error(
          cudaMemcpy(device_tasks.get(), tasks.data(), bytes, cudaMemcpyHostToDevice), "upload"));
      cuda::SampleParams p;
      p.logits = static_cast<const float*>(logits.get());
      p.logits_stride = p.vocab = vocab;
      p.tasks = static_cast<const cuda::SampleTask*>(device_tasks.get());
      p.num_tasks = rows;
      p.tokens = static_cast<int32_t*>(tokens.get());
      p.results = static_cast<cuda::SampleResult*>(results.get());
      p.workspace = workspace.get();
      KernelCase c;
      c.name = fmt::format("sampling {}, {} rows of {}",
                           greedy ? "greedy" : "top-k 40 and top-p 0.95", rows, vocab);
      c.bytes = 4.0 * rows * vocab;
      c.launches = 10;
      c.launch = [p](int, cudaStream_t stream) { return cuda::sample_tokens(p, stream); };
      PELTON_RETURN_IF_ERROR(measure(c));
    }
  }
  return Status();
}

Status check_kernel_times(const CheckContext& context, PartReport& report) {
  PELTON_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceTimer> timer, DeviceTimer::make());
  const MeasureCase measure = [&](const KernelCase& c) -> Status {
    const int launches = context.quick ? 1 : c.launches;
    PELTON_ASSIGN_OR_RETURN(const double us,
                            timer->microseconds(launches, context.quick ? 1 : 5, c.launch));
    CheckRow row;
    row.name = c.name;
    row.unit = "us";
    row.value = us;
    row.lower_is_better = true;
    const double by_bytes = context.copy_gb_per_s > 0 ? 1e-3 * c.bytes / context.copy_gb_per_s : 0;
    const double by_operations =
        context.mma_tflops > 0 ? 1e-6 * c.operations / context.mma_tflops : 0;
    row.limit = std::max(by_bytes, by_operations);
    row.note = fmt::format("{:.0f} GB/s", 1e-3 * c.bytes / us);
    if (c.operations > 0) row.note += fmt::format(", {:.1f} TFLOP/s", 1e-6 * c.operations / us);
    if (row.limit > 0) {
      row.note +=
          by_operations > by_bytes ? ", limited by the matrix rate" : ", limited by bandwidth";
    }
    report.add(row);
    return Status();
  };
  // A kernel that fails leaves a sticky error: its own row says so, and the rest has no card.
  PELTON_RETURN_IF_ERROR(row_cases(context, measure));
  PELTON_RETURN_IF_ERROR(moving_cases(context, measure));
  PELTON_RETURN_IF_ERROR(attention_cases(context, measure));
  PELTON_RETURN_IF_ERROR(encoder_cases(context, measure));
  PELTON_RETURN_IF_ERROR(linear_cases(context, measure));
  return sampling_cases(context, measure);
}

}  // namespace pelton::bench
