#include "cuda/emulator/trace.h"

#include <cuda_runtime.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cuda/emulator/tracer.h"

namespace pelton::cuda::emulator {
namespace {

std::unique_ptr<Tracer>& tracer() {
  static std::unique_ptr<Tracer> tracer;
  return tracer;
}

std::string describe_flow(const char* what, const Flow& flow) {
  if (flow.requests == 0) return "";
  return fmt::format(" {} {} B ({:.3f}x unique), {} sectors ({:.3f}x needed);", what, flow.bytes,
                     flow.byte_ratio(), flow.sectors, flow.sector_ratio());
}

}  // namespace

double Flow::sector_ratio() const {
  return sectors_needed == 0 ? 1
                             : static_cast<double>(sectors) / static_cast<double>(sectors_needed);
}
double Flow::byte_ratio() const {
  return unique_bytes == 0 ? 1 : static_cast<double>(bytes) / static_cast<double>(unique_bytes);
}
void Flow::add(const Flow& other) {
  requests += other.requests;
  bytes += other.bytes;
  unique_bytes += other.unique_bytes;
  sectors += other.sectors;
  sectors_needed += other.sectors_needed;
}

BufferTraffic KernelTrace::buffer(std::string_view name) const {
  for (const BufferTraffic& buffer : buffers) {
    if (buffer.name == name) return buffer;
  }
  BufferTraffic none;
  none.name = name;
  return none;
}

KernelTrace TraceReport::kernel(std::string_view part_of_name) const {
  for (const KernelTrace& kernel : kernels) {
    if (kernel.name.find(part_of_name) != std::string::npos) return kernel;
  }
  return {};
}

std::string TraceReport::describe() const {
  std::string text;
  for (const KernelTrace& kernel : kernels) {
    text +=
        fmt::format("{}: {} launches, {} blocks, {} barriers, {} mma, {} ldmatrix, {} cp.async\n",
                    kernel.name, kernel.launches, kernel.blocks, kernel.barriers, kernel.mma,
                    kernel.ldmatrix, kernel.async_copies);
    for (const BufferTraffic& buffer : kernel.buffers) {
      text += fmt::format("  {} ({} B):{}{} {} atomics\n", buffer.name, buffer.size_bytes,
                          describe_flow("read", buffer.read), describe_flow("write", buffer.write),
                          buffer.atomics);
    }
    text += fmt::format("  shared: {} wavefronts, {} conflicts\n", kernel.shared.wavefronts,
                        kernel.shared.conflicts());
    for (const ConflictSite& site : kernel.shared.sites) {
      text += fmt::format("    {} conflicts in {}\n", site.conflicts, site.place);
    }
  }
  for (const Finding& finding : findings) {
    text += fmt::format("{} ({} times)\n", finding.message, finding.count);
  }
  return text;
}

TraceReport Tracer::report() const {
  TraceReport report;
  report.findings = findings_;
  for (const auto& [name, counts] : kernels_) {
    KernelTrace kernel;
    kernel.name = name;
    kernel.launches = counts.launches;
    kernel.blocks = counts.blocks;
    kernel.mma = counts.mma;
    kernel.ldmatrix = counts.ldmatrix;
    kernel.barriers = counts.barriers;
    kernel.async_copies = counts.async_copies;
    kernel.atomics = counts.atomics;
    kernel.shared = counts.shared;
    for (const auto& [place, conflicts] : counts.conflicts) {
      kernel.shared.sites.push_back({describe_place(place), conflicts});
    }
    std::sort(
        kernel.shared.sites.begin(), kernel.shared.sites.end(),
        [](const ConflictSite& a, const ConflictSite& b) { return a.conflicts > b.conflicts; });
    for (const auto& [number, buffer] : counts.buffers) {
      kernel.buffers.push_back(
          {buffer.name, buffer.size_bytes, buffer.read, buffer.write, buffer.atomics});
      kernel.read.add(buffer.read);
      kernel.write.add(buffer.write);
    }
    report.kernels.push_back(std::move(kernel));
  }
  return report;
}

Trace::Trace() {
  cudaDeviceSynchronize();  // what was launched before is not of this trace
  tracer() = std::make_unique<Tracer>();
  Tracer::set_active(tracer().get());
}

Trace::~Trace() {
  cudaDeviceSynchronize();
  Tracer::set_active(nullptr);
  tracer().reset();
}

void Trace::name(const void* pointer, const std::string& name) {
  Shadow::get().name(reinterpret_cast<uintptr_t>(pointer), name);
}

TraceReport Trace::report() {
  cudaDeviceSynchronize();
  return tracer()->report();
}

}  // namespace pelton::cuda::emulator
