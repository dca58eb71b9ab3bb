// How the members of a JSON body are read: a table of names and setters, walked once over the body.
// Pure functions; what the OpenAI request parsers share.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "core/status.h"
#include "pelton/v1/inference.pb.h"
#include "server/json_view.h"
#include "server/openai_request.h"

namespace pelton {

// What a body is read into. Pointers are null where the kind of body has no such part.
struct Draft {
  v1::SamplingParams* sampling = nullptr;
  v1::Scheduling* scheduling = nullptr;
  v1::CompleteRequest* complete = nullptr;
  v1::ChatRequest* chat = nullptr;
  std::vector<v1::Prompt>* prompts = nullptr;
  AnswerShape* shape = nullptr;
  FieldNames* names = nullptr;
  int content_parts = 0;  // of all messages read so far
};

struct FieldRow {
  std::string_view name;
  Status (*set)(std::string_view name, JsonView value, Draft& draft);
};

// Checks that `body` is a JSON object within the depth limit and gives its view.
StatusOr<JsonView> parse_object(std::string_view body);

// Calls the setter of each row of `tables` whose member is there and not null; in the tables'
// order, so that a row may rely on those before it.
Status set_fields(JsonView object, std::span<const std::span<const FieldRow>> tables, Draft& draft);

// The rows of vLLM's sampling and scheduling members, the same in both kinds of request.
std::span<const FieldRow> sampling_fields();

// INVALID_ARGUMENT naming the member where the value has another type.
Status read_bool(std::string_view name, JsonView value, bool* out);
Status read_int32(std::string_view name, JsonView value, int32_t* out);
Status read_float(std::string_view name, JsonView value, float* out);
Status read_string(std::string_view name, JsonView value, std::string* out);
Status read_ids(std::string_view name, JsonView value,
                google::protobuf::RepeatedField<int32_t>* out);
// A string, or an array of at most `limit` strings.
Status read_strings(std::string_view name, JsonView value, size_t limit,
                    google::protobuf::RepeatedPtrField<std::string>* out);
// A JSON schema or another object that travels as text: as it was sent; a string's contents.
std::string raw_or_string(JsonView value);

Status wrong_type(std::string_view name, std::string_view expected);

// The messages of a chat, and the tools; in openai_chat.cc.
Status read_messages(std::string_view name, JsonView value, Draft& draft);
Status read_tools(std::string_view name, JsonView value, Draft& draft);
Status read_tool_choice(std::string_view name, JsonView value, Draft& draft);

// Sets the constraint; a second one is an error, as in vLLM.
Status read_response_format(std::string_view name, JsonView value, Draft& draft);

}  // namespace pelton
