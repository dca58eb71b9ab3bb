// A chat request as the JSON that chat templates are written for. Run on the worker pool: its time
// is linear in the request.
#pragma once

#include <string_view>

#include "core/status.h"
#include "pelton/v1/inference.pb.h"
#include "text/chat_template.h"

namespace pelton {

// Of a request that convert() accepted. INVALID_ARGUMENT names the field whose JSON is none;
// `path` ("" or "chat") is where the request stands in what the client sent.
StatusOr<ChatInputs> chat_inputs(const v1::ChatRequest& request, std::string_view path = "");

}  // namespace pelton
