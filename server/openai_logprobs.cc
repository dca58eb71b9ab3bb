// The log probabilities of an answer and of its prompt, in OpenAI's and vLLM's shapes.
#include <algorithm>

#include "core/utf8.h"
#include "server/json_writer.h"
#include "server/openai_response.h"

namespace pelton {

std::string OpenAiWriter::token_text(const v1::TokenLogprob& token) const {
  if (shape_.tokens_as_ids) return "token_id:" + std::to_string(token.token_id());
  return to_valid_utf8(token.token());
}

void OpenAiWriter::append_logprobs(std::string& out, int index,
                                   const v1::CompletionChoice& choice) {
  int64_t& offset = text_offset_[std::clamp<size_t>(index, 0, text_offset_.size() - 1)];
  std::string tokens;
  std::string offsets;
  std::string values;
  std::string tops;
  for (int i = 0; i < choice.logprobs_size(); ++i) {
    const v1::PositionLogprobs& position = choice.logprobs(i);
    if (i > 0) {
      for (std::string* list : {&tokens, &offsets, &values, &tops}) *list += ',';
    }
    const std::string chosen = token_text(position.chosen());
    append_json_string(tokens, chosen);
    append_json_int(offsets, offset);
    offset += static_cast<int64_t>(count_code_points(chosen));
    append_json_logprob(values, position.chosen().logprob());
    // The chosen token and the likeliest beside it. Bytes that are no text share one name: the
    // first, likelier one keeps it, since JSON names are unique.
    std::vector<std::string> seen = {chosen};
    tops += '{';
    append_json_string(tops, chosen);
    tops += ':';
    append_json_logprob(tops, position.chosen().logprob());
    for (const v1::TokenLogprob& top : position.top()) {
      std::string text = token_text(top);
      if (std::find(seen.begin(), seen.end(), text) != seen.end()) continue;
      tops += ',';
      append_json_string(tops, text);
      tops += ':';
      append_json_logprob(tops, top.logprob());
      seen.push_back(std::move(text));
    }
    tops += '}';
  }
  out += R"({"text_offset":[)" + offsets + R"(],"token_logprobs":[)" + values + R"(],"tokens":[)" +
         tokens + R"(],"top_logprobs":[)" + tops + "]}";
}

void OpenAiWriter::append_logprobs(std::string& out, int, const v1::ChatChoice& choice) {
  const auto append_token = [&](const v1::TokenLogprob& token) {
    out += R"({"token":)";
    append_json_string(out, token_text(token));
    out += R"(,"logprob":)";
    append_json_logprob(out, token.logprob());
    out += R"(,"bytes":[)";
    for (size_t i = 0; i < token.token().size(); ++i) {
      if (i > 0) out += ',';
      append_json_int(out, static_cast<unsigned char>(token.token()[i]));
    }
    out += ']';
  };
  out += R"({"content":[)";
  for (int i = 0; i < choice.logprobs_size(); ++i) {
    if (i > 0) out += ',';
    append_token(choice.logprobs(i).chosen());
    out += R"(,"top_logprobs":[)";
    for (int k = 0; k < choice.logprobs(i).top_size(); ++k) {
      if (k > 0) out += ',';
      append_token(choice.logprobs(i).top(k));
      out += '}';
    }
    out += "]}";
  }
  out += "]}";
}

void append_prompt_logprobs(
    std::string& out, const google::protobuf::RepeatedPtrField<v1::PositionLogprobs>& positions) {
  const auto append_one = [&](const v1::TokenLogprob& token) {
    out += '"';
    append_json_int(out, token.token_id());
    out += R"(":{"logprob":)";
    append_json_logprob(out, token.logprob());
    out += R"(,"rank":)";
    append_json_int(out, token.rank());
    out += R"(,"decoded_token":)";
    append_json_string(out, to_valid_utf8(token.token()));
    out += '}';
  };
  out += "[null";
  for (const v1::PositionLogprobs& position : positions) {
    out += ",{";
    append_one(position.chosen());
    for (const v1::TokenLogprob& top : position.top()) {
      if (top.token_id() == position.chosen().token_id()) continue;
      out += ',';
      append_one(top);
    }
    out += '}';
  }
  out += ']';
}

}  // namespace pelton
