#include "server/openai_fields.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <vector>

namespace pelton {
namespace {

// Bounds of what is copied before the validator sees it; its own bounds are tighter.
constexpr size_t kMaxStrings = 4096;
constexpr size_t kMaxBiases = 4096;

template <auto kSetter>
Status set_float(std::string_view name, JsonView value, Draft& draft) {
  float number = 0;
  PELTON_RETURN_IF_ERROR(read_float(name, value, &number));
  (draft.sampling->*kSetter)(number);
  return absl::OkStatus();
}
template <auto kSetter>
Status set_int(std::string_view name, JsonView value, Draft& draft) {
  int32_t number = 0;
  PELTON_RETURN_IF_ERROR(read_int32(name, value, &number));
  (draft.sampling->*kSetter)(number);
  return absl::OkStatus();
}
template <auto kSetter>
Status set_bool(std::string_view name, JsonView value, Draft& draft) {
  bool flag = false;
  PELTON_RETURN_IF_ERROR(read_bool(name, value, &flag));
  (draft.sampling->*kSetter)(flag);
  return absl::OkStatus();
}
template <auto kList>
Status set_ids(std::string_view name, JsonView value, Draft& draft) {
  return read_ids(name, value, (draft.sampling->*kList)());
}
template <google::protobuf::RepeatedPtrField<std::string>* (v1::SamplingParams::*kList)()>
Status set_strings(std::string_view name, JsonView value, Draft& draft) {
  return read_strings(name, value, kMaxStrings, (draft.sampling->*kList)());
}

Status set_seed(std::string_view name, JsonView value, Draft& draft) {
  if (value.integer() == -1) return absl::OkStatus();  // vLLM's word for "none"
  std::optional<uint64_t> seed = value.unsigned_integer();
  // vLLM takes an int64: a negative one names the seed of the same 64 bits.
  if (const auto whole = value.integer(); !seed && whole) seed = static_cast<uint64_t>(*whole);
  if (!seed) return wrong_type(name, "an integer in [-2^63, 2^64)");
  draft.sampling->set_seed(*seed);
  return absl::OkStatus();
}

Status set_logit_bias(std::string_view name, JsonView value, Draft& draft) {
  if (!value.is_object()) return wrong_type(name, "an object of token ids and numbers");
  Status status;
  auto* biases = draft.sampling->mutable_logit_bias();
  value.for_each_member([&](std::string_view key, JsonView bias) {
    int32_t id = 0;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    float number = 0;
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size()) {
      status = wrong_type(name, "an object whose names are token ids");
    } else if (biases->size() >= kMaxBiases) {
      status = invalid_field(name, fmt::format("has more than {} entries", kMaxBiases));
    } else {
      status = read_float(name, bias, &number);
      (*biases)[id] = number;
    }
    return status.ok();
  });
  return status;
}

Status set_repetition_detection(std::string_view name, JsonView value, Draft& draft) {
  if (!value.is_object()) return wrong_type(name, "an object");
  auto* detection = draft.sampling->mutable_repetition_detection();
  int32_t numbers[3] = {};
  const std::string_view members[3] = {"max_pattern_size", "min_pattern_size", "min_count"};
  for (int i = 0; i < 3; ++i) {
    if (!value[members[i]].present()) continue;
    PELTON_RETURN_IF_ERROR(
        read_int32(fmt::format("{}.{}", name, members[i]), value[members[i]], &numbers[i]));
  }
  detection->set_max_pattern_size(numbers[0]);
  detection->set_min_pattern_size(numbers[1]);
  detection->set_min_count(numbers[2]);
  return absl::OkStatus();
}

Status set_priority(std::string_view name, JsonView value, Draft& draft) {
  int32_t priority = 0;
  PELTON_RETURN_IF_ERROR(read_int32(name, value, &priority));
  draft.scheduling->set_priority(priority);
  return absl::OkStatus();
}

Status set_cache_salt(std::string_view name, JsonView value, Draft& draft) {
  return read_string(name, value, draft.scheduling->mutable_cache_salt());
}

// The members of one structured-output object, whatever the object is called.
Status set_constraint(std::string_view name, std::string_view kind, JsonView value, Draft& draft) {
  auto* output = draft.sampling->mutable_structured_output();
  if (output->constraint_case() != v1::StructuredOutput::CONSTRAINT_NOT_SET) {
    return invalid_field(name, "only one structured output constraint can be set");
  }
  draft.names->structured_output = std::string(name);
  if (kind == "json") {
    output->set_json_schema(raw_or_string(value));
  } else if (kind == "json_object") {
    bool flag = false;
    PELTON_RETURN_IF_ERROR(read_bool(name, value, &flag));
    if (flag) output->set_json_object(true);
  } else if (kind == "regex") {
    PELTON_RETURN_IF_ERROR(read_string(name, value, output->mutable_regex()));
  } else if (kind == "grammar") {
    PELTON_RETURN_IF_ERROR(read_string(name, value, output->mutable_grammar()));
  } else if (kind == "choice") {
    if (!value.is_array()) return wrong_type(name, "an array of strings");
    PELTON_RETURN_IF_ERROR(
        read_strings(name, value, kMaxStrings, output->mutable_choice()->mutable_values()));
  } else if (kind == "structural_tag") {
    output->set_structural_tag(raw_or_string(value));
  }
  if (output->constraint_case() == v1::StructuredOutput::CONSTRAINT_NOT_SET) {
    draft.sampling->clear_structured_output();
  }
  return absl::OkStatus();
}

Status set_structured_outputs(std::string_view name, JsonView value, Draft& draft) {
  if (!value.is_object()) return wrong_type(name, "an object");
  Status status;
  value.for_each_member([&](std::string_view kind, JsonView constraint) {
    if (constraint.present()) status = set_constraint(name, kind, constraint, draft);
    return status.ok();
  });
  return status;
}

// guided_json and its siblings: vLLM's older names.
Status set_guided(std::string_view name, JsonView value, Draft& draft) {
  return set_constraint(name, name.substr(std::string_view("guided_").size()), value, draft);
}

using Sampling = v1::SamplingParams;
constexpr std::array<FieldRow, 37> kSamplingFields = {{
    {"temperature", set_float<&Sampling::set_temperature>},
    {"top_p", set_float<&Sampling::set_top_p>},
    {"top_k", set_int<&Sampling::set_top_k>},
    {"min_p", set_float<&Sampling::set_min_p>},
    {"seed", set_seed},
    {"n", set_int<&Sampling::set_n>},
    {"min_tokens", set_int<&Sampling::set_min_tokens>},
    {"stop", set_strings<&Sampling::mutable_stop>},
    {"stop_token_ids", set_ids<&Sampling::mutable_stop_token_ids>},
    {"include_stop_str_in_output", set_bool<&Sampling::set_include_stop_str_in_output>},
    {"ignore_eos", set_bool<&Sampling::set_ignore_eos>},
    {"prompt_logprobs", set_int<&Sampling::set_prompt_logprobs>},
    {"skip_special_tokens", set_bool<&Sampling::set_skip_special_tokens>},
    {"detokenize", set_bool<&Sampling::set_detokenize>},
    {"spaces_between_special_tokens", set_bool<&Sampling::set_spaces_between_special_tokens>},
    {"presence_penalty", set_float<&Sampling::set_presence_penalty>},
    {"frequency_penalty", set_float<&Sampling::set_frequency_penalty>},
    {"repetition_penalty", set_float<&Sampling::set_repetition_penalty>},
    {"logit_bias", set_logit_bias},
    {"allowed_token_ids", set_ids<&Sampling::mutable_allowed_token_ids>},
    {"bad_words", set_strings<&Sampling::mutable_bad_words>},
    {"truncate_prompt_tokens", set_int<&Sampling::set_truncate_prompt_tokens>},
    {"thinking_token_budget", set_int<&Sampling::set_thinking_token_budget>},
    {"logprob_token_ids", set_ids<&Sampling::mutable_logprob_token_ids>},
    {"repetition_detection", set_repetition_detection},
    {"prompt_logprob_token_ids", set_ids<&Sampling::mutable_prompt_logprob_token_ids>},
    {"prompt_logprob_start", set_int<&Sampling::set_prompt_logprob_start>},
    {"stream_interval", set_int<&Sampling::set_stream_interval>},
    {"structured_outputs", set_structured_outputs},
    {"guided_json", set_guided},
    {"guided_regex", set_guided},
    {"guided_choice", set_guided},
    {"guided_grammar", set_guided},
    {"response_format", read_response_format},
    {"priority", set_priority},
    {"cache_salt", set_cache_salt},
    {"data_parallel_rank",
     [](std::string_view name, JsonView value, Draft& draft) {
       int32_t rank = 0;
       PELTON_RETURN_IF_ERROR(read_int32(name, value, &rank));
       draft.scheduling->set_data_parallel_rank(rank);
       return absl::OkStatus();
     }},
}};

// A completion has no response_format of its own in the API: it is a constraint on the sampling.
Status constrain_completion(std::string_view name, std::string_view type, JsonView value,
                            Draft& draft) {
  if (type == "json_object") {
    return set_constraint(name, "json_object", JsonView::root("true"), draft);
  }
  const JsonView schema = value["json_schema"]["schema"];
  if (!schema.present()) return invalid_field("response_format.json_schema", "has no schema");
  return set_constraint(name, "json", schema, draft);
}

}  // namespace

Status wrong_type(std::string_view name, std::string_view expected) {
  return invalid_field(name, fmt::format("must be {}", expected));
}

Status read_bool(std::string_view name, JsonView value, bool* out) {
  const auto flag = value.boolean();
  if (!flag) return wrong_type(name, "true or false");
  *out = *flag;
  return absl::OkStatus();
}

Status read_int32(std::string_view name, JsonView value, int32_t* out) {
  const auto number = value.integer();
  if (!number || *number < std::numeric_limits<int32_t>::min() ||
      *number > std::numeric_limits<int32_t>::max()) {
    return wrong_type(name, "an integer of at most 32 bits");
  }
  *out = static_cast<int32_t>(*number);
  return absl::OkStatus();
}

Status read_float(std::string_view name, JsonView value, float* out) {
  const auto number = value.number();
  if (!number) return wrong_type(name, "a number");
  if (std::abs(*number) > std::numeric_limits<float>::max()) {
    return invalid_field(name, "is too large");
  }
  *out = static_cast<float>(*number);
  return absl::OkStatus();
}

Status read_string(std::string_view name, JsonView value, std::string* out) {
  auto text = value.string();
  if (!text) return wrong_type(name, "a string");
  *out = *std::move(text);
  return absl::OkStatus();
}

Status read_ids(std::string_view name, JsonView value,
                google::protobuf::RepeatedField<int32_t>* out) {
  if (!value.is_array()) return wrong_type(name, "an array of token ids");
  Status status;
  value.for_each_element([&](JsonView element) {
    int32_t id = 0;
    status = read_int32(name, element, &id);
    out->Add(id);
    return status.ok();
  });
  return status;
}

Status read_strings(std::string_view name, JsonView value, size_t limit,
                    google::protobuf::RepeatedPtrField<std::string>* out) {
  if (value.is_string()) return read_string(name, value, out->Add());
  if (!value.is_array()) return wrong_type(name, "a string or an array of strings");
  Status status;
  value.for_each_element([&](JsonView element) {
    if (static_cast<size_t>(out->size()) >= limit) {
      status = invalid_field(name, fmt::format("has more than {} entries", limit));
    } else {
      status = read_string(name, element, out->Add());
    }
    return status.ok();
  });
  return status;
}

std::string raw_or_string(JsonView value) {
  return value.is_string() ? *value.string() : std::string(value.raw());
}

StatusOr<JsonView> parse_object(std::string_view body) {
  PELTON_RETURN_IF_ERROR(check_json(body, kMaxJsonDepth));
  const JsonView root = JsonView::root(body);
  if (!root.is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  return root;
}

Status set_fields(JsonView object, std::span<const std::span<const FieldRow>> tables,
                  Draft& draft) {
  size_t rows = 0;
  for (const auto table : tables) rows += table.size();
  std::vector<JsonView> found(rows);
  object.for_each_member([&](std::string_view name, JsonView value) {
    size_t row = 0;
    for (const auto table : tables) {
      for (const FieldRow& field : table) {
        if (field.name == name) {
          found[row] = value;
          return true;
        }
        ++row;
      }
    }
    return true;
  });
  size_t row = 0;
  for (const auto table : tables) {
    for (const FieldRow& field : table) {
      const JsonView value = found[row++];
      if (value.present()) PELTON_RETURN_IF_ERROR(field.set(field.name, value, draft));
    }
  }
  return absl::OkStatus();
}

std::span<const FieldRow> sampling_fields() {
  return kSamplingFields;
}

Status read_response_format(std::string_view name, JsonView value, Draft& draft) {
  const auto type = value["type"].string();
  if (!type) return wrong_type("response_format", "an object with a type");
  if (*type == "text") return absl::OkStatus();
  if (*type == "structural_tag") return set_constraint(name, *type, value, draft);
  if (*type != "json_object" && *type != "json_schema") {
    return invalid_field("response_format.type",
                         "must be text, json_object, json_schema or structural_tag");
  }
  if (draft.chat == nullptr) return constrain_completion(name, *type, value, draft);
  if (*type == "json_object") {
    draft.chat->mutable_response_format()->set_json_object(true);
    return absl::OkStatus();
  }
  const JsonView schema = value["json_schema"];
  if (!schema.is_object()) return wrong_type("response_format.json_schema", "an object");
  auto* out = draft.chat->mutable_response_format()->mutable_json_schema();
  if (schema["name"].present()) {
    PELTON_RETURN_IF_ERROR(
        read_string("response_format.json_schema.name", schema["name"], out->mutable_name()));
  }
  if (schema["schema"].present()) out->set_schema_json(std::string(schema["schema"].raw()));
  if (schema["strict"].present()) {
    bool strict = false;
    PELTON_RETURN_IF_ERROR(
        read_bool("response_format.json_schema.strict", schema["strict"], &strict));
    out->set_strict(strict);
  }
  return absl::OkStatus();
}

}  // namespace pelton
