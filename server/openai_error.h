// A Status as OpenAI's clients expect errors: an HTTP status code and {"error": {...}}. The proto
// path of a field becomes the JSON member that the client sent. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"
#include "server/openai_request.h"

namespace pelton {

int http_status(const Status& status);

// "sampling.top_p" -> "top_p", "tools[0].parameters_json" -> "tools[0].function.parameters".
std::string json_field(std::string_view proto_path, const FieldNames& names);

// {"error":{"message","type","param","code"}}
void append_error(std::string& out, const Status& status, const FieldNames& names);

// For what never was a request of the API: unknown routes, limits of HTTP.
void append_error(std::string& out, std::string_view message, std::string_view type,
                  std::string_view code);

// Seconds for the Retry-After header, at least 1; 0: no such header.
int retry_after_s(const Status& status);

}  // namespace pelton
