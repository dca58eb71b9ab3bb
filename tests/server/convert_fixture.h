// Requests that are fine, what they are bounded by, and what a validator may say of a change to
// them.
#pragma once

#include <functional>
#include <string>

#include "server/convert.h"
#include "tests/support/catch.h"

namespace pelton {

inline constexpr int kVocab = 100;
inline constexpr int kContext = 64;

inline ModelLimits limits() {
  ModelLimits limits;
  limits.max_model_len = kContext;
  limits.vocab_size = kVocab;
  limits.has_tokenizer = true;
  limits.has_chat_template = true;
  return limits;
}

inline v1::CompleteRequest complete() {
  v1::CompleteRequest request;
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  return request;
}

inline v1::ChatRequest chat() {
  v1::ChatRequest request;
  v1::ChatMessage* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_content()->set_text("hello");
  return request;
}

enum class Verdict { kFine, kInvalid, kUnbuilt, kTooLong };

inline void check_verdict(const Status& status, Verdict verdict, const std::string& field) {
  INFO(status);
  switch (verdict) {
    case Verdict::kFine:
      CHECK(status.ok());
      return;
    case Verdict::kInvalid:
      CHECK(status.code() == absl::StatusCode::kInvalidArgument);
      CHECK(error_reason(status) == "INVALID_FIELD");
      break;
    case Verdict::kUnbuilt:
      CHECK(status.code() == absl::StatusCode::kUnimplemented);
      CHECK(error_reason(status) == "UNSUPPORTED_PARAMETER");
      break;
    case Verdict::kTooLong:
      CHECK(status.code() == absl::StatusCode::kInvalidArgument);
      CHECK(error_reason(status) == "CONTEXT_LENGTH_EXCEEDED");
      break;
  }
  CHECK(error_field(status) == field);
  CHECK(std::string(status.message()).find(field) == 0);
}

template <typename Message>
struct Row {
  const char* field;
  Verdict verdict;
  std::function<void(Message&)> change;
};

}  // namespace pelton
