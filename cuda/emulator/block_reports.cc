// What a block says about itself: where its lanes wait, what an address is, why it failed.
#include <fmt/format.h>

#include <cstdlib>
#include <map>

#include "cuda/emulator/block_runner.h"

namespace pelton::cuda::emulator {

std::string place(const Site& site) {
  return fmt::format("{}:{}:{}", site.file_name(), site.line(), site.column());
}

bool BlockRunner::in_shared_array(size_t offset, size_t bytes) const {
  if (offset + bytes <= grid_->shared_bytes) return true;
  for (const SharedPlace& place : shared_places_) {
    if (offset >= place.offset && offset + bytes <= place.offset + place.array->bytes) return true;
  }
  return false;
}

std::string BlockRunner::describe_shared(size_t offset) const {
  // The last array that begins at or before it.
  size_t begin = 0;
  size_t bytes = grid_->shared_bytes;
  std::string name = "dynamic shared memory";
  for (const SharedPlace& place : shared_places_) {
    if (place.offset > offset || (place.offset < begin && bytes > 0)) continue;
    begin = place.offset;
    bytes = place.array->bytes;
    name = fmt::format("shared array {}", place.array->name);
  }
  return offset - begin < bytes
             ? fmt::format("byte {} of {} ({} bytes)", offset - begin, name, bytes)
             : fmt::format("{} bytes past the end of {} ({} bytes)", offset - begin - bytes, name,
                           bytes);
}

std::string BlockRunner::where() const {
  return fmt::format("kernel {}, block ({}, {}, {}), thread ({}, {}, {})", grid_->name, block_.x,
                     block_.y, block_.z, current_->index.x, current_->index.y, current_->index.z);
}

// Nothing that owns memory may be alive here or in the callers: nobody unwinds their frames.
void BlockRunner::fail(cudaError_t code, const char* kind, std::string&& message, Site site) {
  record_fault(code, kind, std::move(message), site);
  failed_ = true;
  switch_fiber(*current_->fiber, main_);
  std::abort();  // nobody comes back
}

void BlockRunner::record_fault(cudaError_t code, const char* kind, std::string message, Site site) {
  fault_.code = code;
  fault_.kind = kind;
  const std::string at = site.line() == 0 ? "" : ", " + place(site);
  fault_.message = fmt::format("{}: {} [{}{}]", kind, message, where(), at);
}

// One line for each place where lanes wait: "__syncthreads at FILE:LINE: 96 threads (0-95)".
std::string BlockRunner::describe_waiting() const {
  std::map<std::string, std::vector<unsigned>> groups;
  for (unsigned i = 0; i < num_threads_; ++i) {
    const Lane& lane = lanes_[i];
    if (lane.state == LaneState::kDone) {
      groups["ended"].push_back(i);
    } else if (lane.state == LaneState::kWaiting) {
      std::string key = fmt::format("waiting in {} at {}", lane.waits_for, place(lane.wait_site));
      if (lane.wait_mask != 0) key += fmt::format(" (mask {:#010x})", lane.wait_mask);
      groups[key].push_back(i);
    }
  }
  std::string text;
  for (const auto& [key, threads] : groups) {
    text += fmt::format("\n  {} threads {}:", threads.size(), key);
    for (size_t i = 0; i < threads.size();) {
      size_t j = i;
      while (j + 1 < threads.size() && threads[j + 1] == threads[j] + 1) ++j;
      text +=
          i == j ? fmt::format(" {}", threads[i]) : fmt::format(" {}-{}", threads[i], threads[j]);
      i = j + 1;
    }
  }
  return text;
}

void BlockRunner::record_deadlock() {
  bool barrier = false;
  bool mask = false;
  for (unsigned i = 0; i < num_threads_; ++i) {
    if (lanes_[i].state != LaneState::kWaiting) continue;
    barrier |= lanes_[i].wait_mask == 0;
    mask |= (lanes_[i].wait_mask & warps_[i / kLanes].done) != 0;
  }
  fault_.code = mask ? cudaErrorLaunchFailure : cudaErrorLaunchTimeout;
  fault_.kind = mask ? "wrong mask" : barrier && num_done_ > 0 ? "divergent barrier" : "deadlock";
  fault_.message =
      fmt::format("{}: no thread can go on [kernel {}, block ({}, {}, {})]{}", fault_.kind,
                  grid_->name, block_.x, block_.y, block_.z, describe_waiting());
}

void BlockRunner::report_deadlock() {
  record_deadlock();
  failed_ = true;
  // current_ ended or waits; either way its stack is the one that we stand on.
  Fiber here;
  switch_fiber(current_->fiber != nullptr ? *current_->fiber : here, main_);
  std::abort();
}

}  // namespace pelton::cuda::emulator
