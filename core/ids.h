// Ids are types, not ints: a block id can not be passed where a token id is asked for.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace pelton {

template <typename Tag, typename Rep>
struct Id {
  Rep value{};
  constexpr Id() = default;
  constexpr explicit Id(Rep v) : value(v) {}
  constexpr auto operator<=>(const Id&) const = default;
};

using RequestId = Id<struct RequestIdTag, uint64_t>;    // minted by the engine, unique in a process
using SequenceId = Id<struct SequenceIdTag, uint64_t>;  // unique in an engine
using BlockId = Id<struct BlockIdTag, int32_t>;         // index into a KV group's blocks; -1: none
using AdapterId = Id<struct AdapterIdTag, int32_t>;     // 0: the base model

// Token ids fill large arrays that kernels read as int32: an alias, bounded by the validators.
using TokenId = int32_t;

}  // namespace pelton

template <typename Tag, typename Rep>
struct std::hash<pelton::Id<Tag, Rep>> {
  size_t operator()(const pelton::Id<Tag, Rep>& id) const noexcept {
    return std::hash<Rep>()(id.value);
  }
};
