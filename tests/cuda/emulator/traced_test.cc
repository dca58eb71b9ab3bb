// What only a traced run sees: each defect planted once and found, and counts of known traffic.
#include <numeric>

#include "cuda/emulator/trace.h"
#include "tests/cuda/emulator/launch_support.h"
#include "tests/cuda/emulator/traced_kernels.h"

namespace pelton::cuda {
namespace {

using Catch::Matchers::Contains;
using emulator::Finding;
using emulator::ScheduleScope;
using emulator::Trace;
using emulator::TraceReport;

std::vector<float> ramp(size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

// The findings must all be of that kind, and there is one.
void check_found(const TraceReport& report, const std::string& kind,
                 const std::vector<std::string>& parts = {}) {
  INFO(report.describe());
  REQUIRE_FALSE(report.findings.empty());
  bool any = false;
  for (const Finding& finding : report.findings) {
    CHECK(finding.kind == kind);
    bool all = true;
    for (const std::string& part : parts) {
      all &= finding.message.find(part) != std::string::npos;
    }
    any |= all;
  }
  CHECK(any);
}

void check_clean(const TraceReport& report) {
  INFO(report.describe());
  CHECK(report.findings.empty());
}

class QuietDevice {
 public:
  QuietDevice() { emulator::set_faults_quiet(true); }
  ~QuietDevice() {
    emulator::set_faults_quiet(false);
    emulator::clear_fault();
    emulator::reset();
  }
};

}  // namespace

TEST_CASE("Sectors are counted by stride and named by buffer") {
  const DeviceBuffer<float> in(ramp(33 * 64));
  const DeviceBuffer<float> out(64);
  for (const auto& [stride, sectors] : {std::pair(1, 8u), {2, 16u}, {8, 64u}, {33, 64u}}) {
    Trace trace;
    trace.name(in.get(), "in");
    trace.name(out.get(), "out");
    REQUIRE(copy_strided(in.get(), out.get(), stride, 64) == cudaSuccess);
    const auto kernel = trace.report().kernel("copy_strided");
    CHECK(kernel.launches == 1);
    CHECK(kernel.buffer("in").read.sectors == sectors);
    CHECK(kernel.buffer("in").read.sectors_needed == 8);
    CHECK(kernel.buffer("in").read.bytes == 256);
    CHECK(kernel.buffer("in").read.unique_bytes == 256);
    CHECK(kernel.buffer("in").write.bytes == 0);
    CHECK(kernel.buffer("out").write.sectors == 8);
    CHECK(kernel.buffer("out").write.sector_ratio() == 1);
  }
}

TEST_CASE("Vector copies move each byte once in one request a warp") {
  const DeviceBuffer<float> in(ramp(1024));
  const DeviceBuffer<float> out(1024);
  Trace trace;
  trace.name(in.get(), "in");
  trace.name(out.get(), "out");
  REQUIRE(copy_vectors(in.get(), out.get(), 4) == cudaSuccess);
  const TraceReport report = trace.report();
  check_clean(report);
  const auto kernel = report.kernel("copy_vectors");
  CHECK(kernel.buffer("in").read.requests == 8);
  CHECK(kernel.buffer("in").read.bytes == 4096);
  CHECK(kernel.buffer("in").read.sectors == 128);
  CHECK(kernel.buffer("out").write.requests == 8);
  CHECK(kernel.buffer("out").write.unique_bytes == 4096);
  CHECK(kernel.buffer("out").write.byte_ratio() == 1);
}

TEST_CASE("Wavefronts of shared memory follow the banks") {
  const DeviceBuffer<float> out(32);
  struct Case {
    int stride, words;
    uint64_t wavefronts, ideal;  // of one access by a warp
  };
  for (const Case& c : {Case{1, 1, 1, 1},
                        {2, 1, 2, 1},
                        {32, 1, 32, 1},
                        {33, 1, 1, 1},
                        {1, 2, 2, 2},
                        {2, 2, 4, 2},
                        {1, 4, 4, 4},
                        {2, 4, 8, 4}}) {
    Trace trace;
    REQUIRE(shared_stride(out.get(), c.stride, c.words) == cudaSuccess);
    const TraceReport report = trace.report();
    INFO(c.stride << " x " << c.words << report.describe());
    const auto shared = report.kernel("shared_stride").shared;
    CHECK(shared.requests == 2);
    CHECK(shared.wavefronts == 2 * c.wavefronts);
    CHECK(shared.ideal_wavefronts == 2 * c.ideal);
    CHECK(shared.sites.empty() == (c.wavefronts == c.ideal));
  }
}

TEST_CASE("A missing swizzle shows as conflicts of ldmatrix") {
  const DeviceBuffer<uint16_t> in(std::vector<uint16_t>(512));
  const DeviceBuffer<uint32_t> out(256);
  for (const bool swizzled : {true, false}) {
    Trace trace;
    REQUIRE(transpose_tile(in.get(), out.get(), swizzled) == cudaSuccess);
    const TraceReport report = trace.report();
    check_clean(report);
    const auto kernel = report.kernel("transpose_tile");
    CHECK(kernel.ldmatrix == 8);
    CHECK(kernel.shared.conflicts() == (swizzled ? 0 : 8 * 7));
    if (!swizzled) CHECK_THAT(kernel.shared.sites.at(0).place, Contains("transpose_tile"));
  }
}

TEST_CASE("Matrix instructions count once a warp and atomics once a lane") {
  const DeviceBuffer<float> out(std::vector<float>(1));
  Trace trace;
  trace.name(out.get(), "out");
  REQUIRE(multiply_often(out.get(), 5) == cudaSuccess);
  const TraceReport report = trace.report();
  check_clean(report);
  const auto kernel = report.kernel("multiply_often");
  CHECK(kernel.blocks == 3);
  CHECK(kernel.mma == 3 * 2 * 5);
  CHECK(kernel.atomics == 3 * 64);
  CHECK(kernel.buffer("out").atomics == 3 * 64);
}

TEST_CASE("A missing barrier at the end of a loop is a race") {
  const DeviceBuffer<float> in(ramp(512));
  const DeviceBuffer<float> out(128);
  for (const auto& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    {
      Trace trace;
      REQUIRE(stage_tiles(in.get(), out.get(), 4, true) == cudaSuccess);
      check_clean(trace.report());
      CHECK(trace.report().kernel("stage_tiles").barriers == 8);
    }
    Trace trace;
    REQUIRE(stage_tiles(in.get(), out.get(), 4, false) == cudaSuccess);
    check_found(trace.report(), "race",
                {"between warps", "shared array tile", "stage_tiles_kernel", "traced_kernels.cc"});
  }
}

TEST_CASE("A race between warps is found and a barrier ends it") {
  const DeviceBuffer<int> out(64);
  for (const auto& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    {
      Trace trace;
      REQUIRE(exchange_between_warps(out.get(), true) == cudaSuccess);
      check_clean(trace.report());
    }
    Trace trace;
    REQUIRE(exchange_between_warps(out.get(), false) == cudaSuccess);
    const TraceReport report = trace.report();
    INFO(report.describe());
    bool race = false;
    for (const Finding& finding : report.findings) {
      race |= finding.kind == "race" && finding.message.find("between warps") != std::string::npos;
    }
    CHECK(race);
  }
}

TEST_CASE("A race within a warp is found and __syncwarp ends it") {
  const DeviceBuffer<int> out(32);
  {
    Trace trace;
    REQUIRE(exchange_within_warp(out.get(), true) == cudaSuccess);
    check_clean(trace.report());
  }
  Trace trace;
  REQUIRE(exchange_within_warp(out.get(), false) == cudaSuccess);
  const TraceReport report = trace.report();
  INFO(report.describe());
  bool race = false;
  for (const Finding& finding : report.findings) {
    race |= finding.kind == "race" && finding.message.find("within a warp") != std::string::npos;
  }
  CHECK(race);
}

TEST_CASE("Named barriers order those who meet at them") {
  const DeviceBuffer<int> out(32);
  {
    Trace trace;
    REQUIRE(hand_over(out.get(), true) == cudaSuccess);
    check_clean(trace.report());
  }
  Trace trace;
  REQUIRE(hand_over(out.get(), false) == cudaSuccess);
  check_found(trace.report(), "race", {"between warps"});
}

TEST_CASE("Blocks that write one word or read what another writes race") {
  const DeviceBuffer<int> out(std::vector<int>(256));
  {
    Trace trace;
    trace.name(out.get(), "values");
    REQUIRE(all_blocks_write(out.get()) == cudaSuccess);
    check_found(trace.report(), "race", {"between blocks", "buffer values"});
  }
  Trace trace;
  REQUIRE(read_neighbour_block(out.get(), 256) == cudaSuccess);
  check_found(trace.report(), "race", {"between blocks"});
}

TEST_CASE("Updates in place of small elements race with nobody") {
  const DeviceBuffer<uint16_t> values(std::vector<uint16_t>(1000));
  for (const auto& schedule : all_schedules()) {
    const ScheduleScope scope(schedule);
    Trace trace;
    REQUIRE(increment_in_place(values.get(), 1000) == cudaSuccess);
    check_clean(trace.report());
  }
}

TEST_CASE("The last block may read what others fenced and counted") {
  const DeviceBuffer<int> in(std::vector<int>(10 * 64, 1));
  const auto run = [&](bool with_fence, bool with_barrier) {
    const DeviceBuffer<int> partial(10 * 64);
    const DeviceBuffer<unsigned> finished(std::vector<unsigned>{0});
    const DeviceBuffer<int> out(1);
    Trace trace;
    REQUIRE(sum_by_last_block(in.get(), partial.get(), finished.get(), out.get(), 10, with_fence,
                              with_barrier) == cudaSuccess);
    return trace.report();
  };
  check_clean(run(true, true));
  check_found(run(false, true), "race", {"between blocks"});
  check_found(run(true, false), "race", {"between blocks"});
}

TEST_CASE("cp.async without its wait is found and so is a missing barrier after it") {
  const DeviceBuffer<float> in(ramp(1024));
  const DeviceBuffer<float> out(64);
  {
    Trace trace;
    REQUIRE(pipeline(in.get(), out.get(), 4, true, true) == cudaSuccess);
    check_clean(trace.report());
    CHECK(trace.report().kernel("pipeline").async_copies == 4 * 64);
  }
  {
    Trace trace;
    REQUIRE(pipeline(in.get(), out.get(), 4, false, true) == cudaSuccess);
    check_found(trace.report(), "cp.async without wait", {"shared array ring"});
  }
  Trace trace;
  REQUIRE(pipeline(in.get(), out.get(), 4, true, false) == cudaSuccess);
  const TraceReport report = trace.report();
  INFO(report.describe());
  CHECK_FALSE(report.clean());
}

TEST_CASE("Global memory out of bounds is found to the byte") {
  const QuietDevice quiet;
  for (const int index : {10, -1, 1000}) {
    const DeviceBuffer<float> in(ramp(10));
    const DeviceBuffer<float> out(10);
    Trace trace;
    trace.name(in.get(), "in");
    trace.name(out.get(), "out");
    CHECK(read_at(in.get(), out.get(), index) == cudaSuccess);
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    check_found(trace.report(), "out of bounds", {"read of 4 bytes"});
    emulator::reset();
  }
  const DeviceBuffer<float> out(10);
  Trace trace;
  trace.name(out.get(), "out");
  CHECK(write_at(out.get(), 10) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  check_found(trace.report(), "out of bounds", {"0 bytes past the end of buffer out (40 bytes)"});
}

TEST_CASE("Shared memory out of bounds is found to the byte") {
  const QuietDevice quiet;
  const DeviceBuffer<float> out(10);
  Trace trace;
  CHECK(shared_write_at(out.get(), 100) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  check_found(trace.report(), "out of bounds", {"0 bytes past the end of shared array values"});
}

TEST_CASE("Memory that was freed is named when it is read") {
  const QuietDevice quiet;
  const DeviceBuffer<float> out(10);
  float* freed = nullptr;
  REQUIRE(cudaMalloc(reinterpret_cast<void**>(&freed), 40) == cudaSuccess);
  Trace trace;
  trace.name(freed, "old");
  REQUIRE(cudaFree(freed) == cudaSuccess);
  CHECK(read_at(freed, out.get(), 3) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  check_found(trace.report(), "use after free", {"byte 12 of buffer old (40 bytes, freed)"});
}

TEST_CASE("Uninitialised memory is found when it is read and not when it is written") {
  const DeviceBuffer<float> fresh(10);
  const DeviceBuffer<float> out(64);
  {
    Trace trace;
    trace.name(fresh.get(), "fresh");
    REQUIRE(read_at(fresh.get(), out.get(), 3) == cudaSuccess);
    check_found(trace.report(), "uninitialised read", {"byte 12 of buffer fresh"});
  }
  {
    Trace trace;
    REQUIRE(write_at(fresh.get(), 3) == cudaSuccess);
    REQUIRE(read_at(fresh.get(), out.get(), 3) == cudaSuccess);
    check_clean(trace.report());
  }
  Trace trace;
  REQUIRE(shared_read_unwritten(out.get()) == cudaSuccess);
  check_found(trace.report(), "uninitialised read", {"shared array values"});
}

TEST_CASE("A vector access that is not aligned is found whatever the host makes of it") {
  const QuietDevice quiet;
  const DeviceBuffer<float> in(ramp(16));
  const DeviceBuffer<float> out(16);
  Trace trace;
  CHECK(misaligned_float4(in.get(), out.get()) == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaErrorMisalignedAddress);
  CHECK_THAT(take_fault(), Contains("misaligned access: 16 bytes"));
}

}  // namespace pelton::cuda
