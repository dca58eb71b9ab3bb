#include "cuda/emulator/tracer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cuda/emulator/address_space.h"
#include "cuda/emulator/block_runner.h"

namespace pelton::cuda::emulator {
namespace {

bool is_write(AccessKind kind) {
  return kind == AccessKind::kWrite || kind == AccessKind::kAsyncWrite ||
         kind == AccessKind::kAtomic;
}

const char* verb(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return "read";
    case AccessKind::kWrite:
      return "write";
    case AccessKind::kAtomic:
      return "atomic";
    case AccessKind::kAsyncRead:
      return "cp.async from";
    case AccessKind::kAsyncWrite:
      return "cp.async to";
    case AccessKind::kMatrixRead:
      return "ldmatrix";
  }
  return "";
}

}  // namespace

void Tracer::begin_kernel(const std::string& name) {
  counts_ = &kernels_[name];
  ++counts_->launches;
  Shadow::get().begin_kernel();
  clocks_.begin_kernel();
}

void Tracer::end_kernel() {
  for (const auto& [begin, allocation] : Shadow::get().allocations()) {
    if (!allocation.touched) continue;
    const auto found = counts_->buffers.find(allocation.number);
    if (found == counts_->buffers.end()) continue;
    found->second.read.unique_bytes += Shadow::get().count(allocation, Shadow::kRead);
    found->second.write.unique_bytes += Shadow::get().count(allocation, Shadow::kWritten);
  }
}

void Tracer::begin_block(BlockRunner& runner) {
  runner_ = &runner;
  ++counts_->blocks;
  clocks_.begin_block(runner.num_threads());
  traffic_.begin_block(runner.num_threads());
  shared_writers_.resize(kSharedStride);
  shared_readers_.resize(kSharedStride);
  shared_pending_.assign(kSharedStride, 0);
}

void Tracer::end_thread(unsigned thread, bool last_of_warp) {
  if (last_of_warp) traffic_.flush_warp(thread / kLanes, *counts_);
}

void Tracer::block_barrier() {
  ++counts_->barriers;
  for (unsigned w = 0; w * kLanes < runner_->num_threads(); ++w) traffic_.flush_warp(w, *counts_);
  clocks_.block_barrier();
}

void Tracer::named_barrier_arrived(int id, unsigned thread) {
  clocks_.arrive(id, thread);
}

void Tracer::named_barrier_released(int id, const std::vector<unsigned>& threads) {
  ++counts_->barriers;
  clocks_.release(id, threads);
}

void Tracer::warp_met(unsigned warp, uint32_t mask, uint32_t present, bool orders_memory) {
  if (mask == present) traffic_.flush_warp(warp, *counts_);
  if (orders_memory) clocks_.warp_barrier(warp, mask);
}

void Tracer::fenced(unsigned thread) {
  clocks_.fence(thread);
}

void Tracer::access(uintptr_t address, size_t bytes, AccessKind kind, const void* instruction) {
  const auto* pointer = reinterpret_cast<const void*>(address);
  const bool global = is_global(pointer);
  if (!global && !is_shared(pointer)) return;
  const uint32_t place = place_of(instruction);
  if (kind == AccessKind::kAtomic) ++counts_->atomics;
  if (kind == AccessKind::kAsyncWrite) ++counts_->async_copies;
  const unsigned thread = runner_->lane().linear;
  for (size_t done = 0; done < bytes;) {  // ranges in pieces that a log entry can hold
    const auto piece = static_cast<uint16_t>(std::min<size_t>(bytes - done, 16));
    traffic_.log(thread, {address + done, place, piece, kind, !global});
    done += piece;
  }
  if (global) {
    access_global(address, bytes, kind, place);
  } else {
    access_shared(address, bytes, kind, place);
  }
}

void Tracer::access_global(uintptr_t address, size_t bytes, AccessKind kind, uint32_t place) {
  Shadow& shadow = Shadow::get();
  const bool write = is_write(kind);
  check_bounds(address, bytes, write, place);
  Allocation& allocation = *shadow.find(address);
  allocation.touched = true;
  uint8_t* flags = shadow.flags(address);
  uint8_t all = 0xff;
  uint8_t any = 0;
  for (size_t i = 0; i < bytes; ++i) all &= flags[i], any |= flags[i];
  if ((!write || kind == AccessKind::kAtomic) && (all & Shadow::kInitialised) == 0) {
    find("uninitialised read", place, 0,
         fmt::format("{} of {} bytes at {}", verb(kind), bytes, describe(address)));
  }
  const uint8_t set = write ? Shadow::kWritten | Shadow::kInitialised : Shadow::kRead;
  for (size_t i = 0; i < bytes; ++i) flags[i] |= set;
  const Stamp now = clocks_.now(runner_->lane().linear, kind == AccessKind::kAtomic);
  // Bytes that nobody wrote in this kernel have no race with a reader.
  if (!write && (any & Shadow::kWritten) == 0) {
    if (!allocation.keeps_readers) return;
  }
  for (size_t i = 0; i < bytes; ++i) {
    check_race(address + i, shadow.writer(address + i),
               allocation.keeps_readers ? &shadow.readers(address + i) : nullptr, kind,
               {now.bits, place});
  }
  if (kind == AccessKind::kAtomic) clocks_.atomic(address, runner_->lane().linear);
}

void Tracer::access_shared(uintptr_t address, size_t bytes, AccessKind kind, uint32_t place) {
  const uintptr_t base = reinterpret_cast<uintptr_t>(runner_->dynamic_shared());
  const uintptr_t offset = address - base;
  const bool write = is_write(kind);
  if (offset >= kSharedStride || !runner_->in_shared_array(offset, bytes)) {
    std::string message = fmt::format("{} of {} bytes at {}", verb(kind), bytes, describe(address));
    find("out of bounds", place, 0, message);
    message += ", " + describe_place(place);
    runner_->fail(cudaErrorIllegalAddress, "out of bounds (shared memory)", std::move(message),
                  Site());
  }
  const Stamp now = clocks_.now(runner_->lane().linear, kind == AccessKind::kAtomic);
  bool uninitialised = false;
  bool pending = false;
  for (size_t i = 0; i < bytes; ++i) {
    Mark& writer = shared_writers_[offset + i];
    Readers& readers = shared_readers_[offset + i];
    pending |= shared_pending_[offset + i] != 0;
    if (!clocks_.in_this_block(Stamp(writer.stamp))) {  // what another block left
      writer = {};
      readers = {};
      uninitialised = true;
    }
    check_race(address + i, writer, &readers, kind, {now.bits, place});
    if (write) shared_pending_[offset + i] = kind == AccessKind::kAsyncWrite ? 1 : 0;
  }
  if (pending) {
    find("cp.async without wait", place, 0,
         fmt::format("{} of {} bytes at {}, whose copy is under way", verb(kind), bytes,
                     describe(address)));
  } else if (uninitialised && (!write || kind == AccessKind::kAtomic)) {
    find("uninitialised read", place, 0,
         fmt::format("{} of {} bytes at {}", verb(kind), bytes, describe(address)));
  }
}

void Tracer::async_landed(void* target, size_t bytes) {
  const uintptr_t offset =
      reinterpret_cast<uintptr_t>(target) - reinterpret_cast<uintptr_t>(runner_->dynamic_shared());
  const Stamp now = clocks_.now(runner_->lane().linear);
  for (size_t i = 0; i < bytes; ++i) {
    shared_pending_[offset + i] = 0;
    shared_writers_[offset + i].stamp = now.bits;
  }
}

void Tracer::check_bounds(uintptr_t address, size_t bytes, bool write, uint32_t place) {
  Shadow& shadow = Shadow::get();
  const Allocation* allocation = shadow.find(address);
  if (allocation != nullptr && allocation->live && address + bytes <= allocation->end()) return;
  const bool freed = allocation != nullptr && !allocation->live;
  const char* kind = freed ? "use after free" : "out of bounds";
  std::string message =
      fmt::format("{} of {} bytes at {}", write ? "write" : "read", bytes, describe(address));
  find(kind, place, 0, message);
  message += ", " + describe_place(place);
  runner_->fail(cudaErrorIllegalAddress, kind, std::move(message), Site());
}

void Tracer::check_race(uintptr_t address, Mark& writer, Readers* readers, AccessKind kind,
                        Mark mark) {
  const Stamp now(mark.stamp);
  const unsigned thread = now.thread();
  const Stamp written(writer.stamp);
  if (!written.none() && !clocks_.ordered(written, thread) && !(written.atomic() && now.atomic())) {
    race(address, writer, true, is_write(kind), mark.place);
  }
  if (is_write(kind)) {
    if (readers != nullptr) {
      for (const Mark* reader : {&readers->last, &readers->other}) {
        const Stamp read(reader->stamp);
        if (!read.none() && !clocks_.ordered(read, thread)) {
          race(address, *reader, false, true, mark.place);
          break;
        }
      }
      if (!clocks_.in_this_block(Stamp(readers->last.stamp))) *readers = {};
    }
    writer = mark;
    return;
  }
  if (readers == nullptr) return;
  const Stamp last(readers->last.stamp);
  const bool last_counts =
      !last.none() && last.thread() != thread && !clocks_.ordered(last, thread);
  if (last_counts) {
    const Stamp other(readers->other.stamp);
    const bool keep_other = !other.none() && !clocks_.ordered(other, thread) &&
                            last.thread() / kLanes == thread / kLanes &&
                            clocks_.in_this_block(last);
    if (!keep_other) readers->other = readers->last;
  }
  readers->last = mark;
}

void Tracer::race(uintptr_t address, const Mark& earlier, bool earlier_write, bool now_write,
                  uint32_t place) {
  const Stamp stamp(earlier.stamp);
  const std::string who = clocks_.in_this_block(stamp)
                              ? fmt::format("thread {} of this block", stamp.thread())
                              : fmt::format("thread {} of another block", stamp.thread());
  const char* scope = "between blocks";
  if (clocks_.in_this_block(stamp)) {
    scope = stamp.thread() / kLanes == runner_->lane().linear / kLanes ? "within a warp"
                                                                       : "between warps";
  }
  find("race", place, earlier.place,
       fmt::format("{}: {} at {}; {} {} it at {}, with nothing that orders the two", scope,
                   now_write ? "write" : "read", describe(address), who,
                   earlier_write ? "wrote" : "read", describe_place(earlier.place)));
}

void Tracer::find(const char* kind, uint32_t place, uint32_t other_place,
                  const std::string& message) {
  const FindingKey key{kind, runner_->grid().name, place, other_place};
  const auto known = finding_index_.find(key);
  if (known != finding_index_.end()) {
    ++findings_[known->second].count;
    return;
  }
  if (findings_.size() >= kMaxFindings) return;
  finding_index_[key] = findings_.size();
  findings_.push_back(
      {kind, fmt::format("{}: {} [{}, {}]", kind, message, runner_->where(), describe_place(place)),
       1});
}

std::string Tracer::describe(uintptr_t address) const {
  const auto* pointer = reinterpret_cast<const void*>(address);
  if (is_shared(pointer)) {
    const uintptr_t base = reinterpret_cast<uintptr_t>(runner_->dynamic_shared());
    return runner_->describe_shared(address - base);
  }
  Shadow& shadow = Shadow::get();
  const Allocation* allocation = shadow.find(address);
  if (allocation != nullptr) {
    return fmt::format("byte {} of buffer {} ({} bytes{})", address - allocation->begin,
                       allocation->name, allocation->bytes, allocation->live ? "" : ", freed");
  }
  allocation = shadow.nearest(address);
  if (allocation == nullptr) return fmt::format("{}", pointer);
  if (address < allocation->begin) {
    return fmt::format("{} bytes before buffer {} ({} bytes)", allocation->begin - address,
                       allocation->name, allocation->bytes);
  }
  return fmt::format("{} bytes past the end of buffer {} ({} bytes)", address - allocation->end(),
                     allocation->name, allocation->bytes);
}

}  // namespace pelton::cuda::emulator
