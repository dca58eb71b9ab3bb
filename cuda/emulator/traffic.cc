#include "cuda/emulator/traffic.h"

#include <algorithm>

#include "cuda/emulator/shadow.h"

namespace pelton::cuda::emulator {
namespace {

constexpr uintptr_t kSector = 32;
constexpr unsigned kBanks = 32;

struct Span {
  uintptr_t begin;
  uintptr_t end;
};

// Ascending and disjoint.
unsigned merge(std::array<Span, 32>& spans, unsigned count) {
  const auto by_begin = [](const Span& a, const Span& b) { return a.begin < b.begin; };
  if (!std::is_sorted(spans.begin(), spans.begin() + count, by_begin)) {
    std::sort(spans.begin(), spans.begin() + count, by_begin);
  }
  unsigned merged = 0;
  for (unsigned i = 1; i < count; ++i) {
    if (spans[i].begin <= spans[merged].end) {
      spans[merged].end = std::max(spans[merged].end, spans[i].end);
    } else {
      spans[++merged] = spans[i];
    }
  }
  return merged + 1;
}

}  // namespace

void Traffic::Request::add(unsigned in_lane, const LoggedAccess& access) {
  lane[count] = static_cast<uint8_t>(in_lane);
  address[count] = access.address;
  bytes[count] = access.bytes;
  ++count;
}

void Traffic::begin_block(unsigned num_threads) {
  if (logs_.size() < num_threads) logs_.resize(num_threads);
  for (auto& log : logs_) log.clear();
}

void Traffic::flush_warp(unsigned warp, KernelCounts& counts) {
  group(warp, counts);
  for (unsigned lane = 0; lane < 32 && warp * 32 + lane < logs_.size(); ++lane) {
    logs_[warp * 32 + lane].clear();
  }
}

// Lanes that ran the same path have equal lists of instructions and are walked side by side. Where
// they parted, an instruction's n-th occurrence in one lane goes with the n-th in the others.
void Traffic::group(unsigned warp, KernelCounts& counts) {
  const unsigned first = warp * 32;
  const unsigned lanes = std::min<unsigned>(32, static_cast<unsigned>(logs_.size()) - first);
  size_t longest = 0;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    longest = std::max(longest, logs_[first + lane].size());
  }
  if (longest == 0) return;
  size_t common = 0;
  for (; common < longest; ++common) {
    Request request;
    bool same = true;
    for (unsigned lane = 0; lane < lanes && same; ++lane) {
      const auto& log = logs_[first + lane];
      if (log.empty()) continue;  // a lane that takes no part
      if (common >= log.size()) {
        same = false;
        break;
      }
      const LoggedAccess& access = log[common];
      if (request.count == 0) {
        request.place = access.place;
        request.kind = access.kind;
        request.shared = access.shared;
      }
      same = request.place == access.place && request.kind == access.kind &&
             request.shared == access.shared;
      request.add(lane, access);
    }
    if (!same) break;
    finish(request, counts);
  }
  if (common == longest) return;
  struct Key {
    uint32_t place;
    uint32_t kind;
    uint32_t occurrence;
    bool operator<(const Key& other) const {
      return std::tie(place, kind, occurrence) <
             std::tie(other.place, other.kind, other.occurrence);
    }
  };
  std::map<Key, Request> requests;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    std::unordered_map<uint64_t, uint32_t> seen;
    const auto& log = logs_[first + lane];
    for (size_t i = common; i < log.size(); ++i) {
      const uint32_t kind = static_cast<uint32_t>(log[i].kind) * 2 + (log[i].shared ? 1 : 0);
      const uint32_t occurrence = seen[uint64_t{log[i].place} << 8 | kind]++;
      Request& request = requests[{log[i].place, kind, occurrence}];
      request.place = log[i].place;
      request.kind = log[i].kind;
      request.shared = log[i].shared;
      request.add(lane, log[i]);
    }
  }
  for (const auto& [key, request] : requests) finish(request, counts);
}

void Traffic::finish(const Request& request, KernelCounts& counts) {
  if (request.count == 0) return;
  if (request.shared) {
    finish_shared(request, counts);
  } else {
    finish_global(request, counts);
  }
}

void Traffic::finish_global(const Request& request, KernelCounts& counts) {
  const Allocation* allocation = Shadow::get().find(request.address[0]);
  if (allocation == nullptr) return;
  KernelCounts::Buffer& buffer = counts.buffers[allocation->number];
  if (buffer.size_bytes == 0) {
    buffer.name = allocation->name;
    buffer.size_bytes = allocation->bytes;
  }
  if (request.kind == AccessKind::kAtomic) {
    buffer.atomics += request.count;
    return;
  }
  std::array<Span, 32> spans;
  for (unsigned i = 0; i < request.count; ++i) {
    spans[i] = {request.address[i], request.address[i] + request.bytes[i]};
  }
  const unsigned merged = merge(spans, request.count);
  uint64_t bytes = 0;
  uint64_t sectors = 0;
  uintptr_t next_sector = 0;  // not counted yet
  for (unsigned i = 0; i < merged; ++i) {
    bytes += spans[i].end - spans[i].begin;
    const uintptr_t begin = std::max(next_sector, spans[i].begin / kSector);
    const uintptr_t end = (spans[i].end + kSector - 1) / kSector;
    if (end > begin) sectors += end - begin;
    next_sector = std::max(next_sector, end);
  }
  Flow& flow = request.kind == AccessKind::kWrite ? buffer.write : buffer.read;
  ++flow.requests;
  flow.bytes += bytes;
  flow.sectors += sectors;
  flow.sectors_needed += (bytes + kSector - 1) / kSector;
}

void Traffic::finish_shared(const Request& request, KernelCounts& counts) {
  ++counts.shared.requests;
  if (request.kind == AccessKind::kAtomic) return;
  uint16_t widest = 0;
  for (unsigned i = 0; i < request.count; ++i) {
    widest = std::max(widest, request.bytes[i]);
    counts.shared.bytes += request.bytes[i];
  }
  // Lanes that are served together: all, halves, quarters (each matrix of an ldmatrix is one).
  const unsigned lanes_a_phase = widest <= 4 ? 32 : widest <= 8 ? 16 : 8;
  std::array<std::array<uintptr_t, 32>, kBanks> words;  // distinct ones in each bank
  uint64_t wavefronts = 0;
  uint64_t ideal = 0;
  for (unsigned i = 0; i < request.count;) {
    const unsigned phase = request.lane[i] / lanes_a_phase;
    std::array<uint8_t, kBanks> used{};
    unsigned distinct = 0;
    unsigned worst = 0;
    for (; i < request.count && request.lane[i] / lanes_a_phase == phase; ++i) {
      const uintptr_t end = (request.address[i] + std::min<unsigned>(request.bytes[i], 16) + 3) / 4;
      for (uintptr_t word = request.address[i] / 4; word < end; ++word) {
        const unsigned bank = word % kBanks;
        const auto begin_of = words[bank].begin();
        if (std::find(begin_of, begin_of + used[bank], word) != begin_of + used[bank]) continue;
        words[bank][used[bank]++] = word;
        ++distinct;
        worst = std::max<unsigned>(worst, used[bank]);
      }
    }
    wavefronts += worst;
    ideal += (distinct + kBanks - 1) / kBanks;
  }
  counts.shared.wavefronts += wavefronts;
  counts.shared.ideal_wavefronts += ideal;
  if (wavefronts > ideal) counts.conflicts[request.place] += wavefronts - ideal;
}

}  // namespace pelton::cuda::emulator
