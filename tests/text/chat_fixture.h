// A template made of its source, and the shortest conversation to give it.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <memory>
#include <string>

#include "tests/support/catch.h"
#include "text/chat_template.h"

namespace pelton::text_test {

inline ChatInputs user_says(const std::string& content) {
  ChatInputs inputs;
  boost::json::object message;
  message["role"] = "user";
  message["content"] = content;
  inputs.messages_json = boost::json::serialize(boost::json::array{message});
  return inputs;
}

inline std::unique_ptr<ChatTemplate> template_of(const std::string& source,
                                                 const Tokenizer& tokenizer,
                                                 const ChatTemplateOptions& options = {}) {
  auto chat = ChatTemplate::from_source(source, tokenizer, options);
  INFO(chat.status().ToString());
  REQUIRE(chat.ok());
  return *std::move(chat);
}

}  // namespace pelton::text_test
