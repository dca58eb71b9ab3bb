// The bounds of a chat's own fields (inference.proto): a part of convert.h's validator.
#pragma once

#include <string_view>

#include "pelton/v1/inference.pb.h"
#include "server/convert.h"
#include "server/field_check.h"

namespace pelton {

// Of a whole conversation: an empty part takes few bytes of a message and many of memory.
inline constexpr int kMaxContentParts = 16384;

// Everything of the request that makes its prompt.
void check_chat(const v1::ChatRequest& request, const ModelLimits& limits, const FieldCheck& check);

// Refuses answers that may call tools. A conversation that is only tokenised has none.
void check_tool_calls(const v1::ChatRequest& request, const FieldCheck& check);

// Refuses a text that can not fit the context however it is tokenised.
void check_text_fits(std::string_view field, size_t bytes, const ModelLimits& limits,
                     const FieldCheck& check);

}  // namespace pelton
