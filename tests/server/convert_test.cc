// Defaults, conversion, and the bounds that depend on the prompt's length.
#include "server/convert.h"

#include <string>
#include <vector>

#include "tests/server/convert_fixture.h"

namespace pelton {

TEST_CASE("absent fields take the defaults of their comments") {
  const auto request = convert(complete(), limits()).value();
  CHECK(request.params.temperature == 1.0F);
  CHECK(request.params.top_p == 1.0F);
  CHECK(request.params.top_k == 0);
  CHECK(request.params.logprobs == -1);
  CHECK(request.params.prompt_logprobs == -1);
  CHECK(request.params.skip_special_tokens);
  CHECK(request.params.max_tokens == 16);
  CHECK(request.use_prefix_cache);
  CHECK(convert(complete(), limits())->params.seed != request.params.seed);  // minted
}

TEST_CASE("an absent max_tokens is 16 for a prompt and the rest of the context for a chat") {
  auto text = complete();
  text.mutable_prompt()->set_text("x");
  auto prompt = convert(text, limits()).value();
  REQUIRE(fit_to_context(prompt, 10, limits()).ok());
  CHECK(prompt.params.max_tokens == 16);
  REQUIRE(fit_to_context(prompt, 60, limits()).ok());
  CHECK(prompt.params.max_tokens == 4);

  auto conversation = convert(chat(), limits()).value();
  REQUIRE(fit_to_context(conversation, 10, limits()).ok());
  CHECK(conversation.params.max_tokens == kContext - 10);
  check_verdict(fit_to_context(conversation, kContext, limits()), Verdict::kTooLong, "messages");
  check_verdict(fit_to_context(conversation, 0, limits()), Verdict::kInvalid, "messages");
}

TEST_CASE("every given field reaches the engine's parameters") {
  auto request = complete();
  v1::SamplingParams& s = *request.mutable_sampling();
  s.set_max_tokens(9);
  s.set_min_tokens(2);
  s.set_temperature(0.5F);
  s.set_top_k(7);
  s.set_top_p(0.25F);
  s.set_min_p(0.125F);
  s.set_seed(42);
  s.add_stop("end");
  s.add_stop_token_ids(3);
  s.set_include_stop_str_in_output(true);
  s.set_ignore_eos(true);
  s.set_logprobs(0);
  s.set_prompt_logprobs(5);
  s.set_skip_special_tokens(false);
  request.mutable_scheduling()->set_priority(-5);
  request.set_return_token_ids(true);
  const auto out = convert(request, limits()).value();
  const SamplingParams& p = out.params;
  CHECK(p.max_tokens == 9);
  CHECK(p.min_tokens == 2);
  CHECK(p.temperature == 0.5F);
  CHECK(p.top_k == 7);
  CHECK(p.top_p == 0.25F);
  CHECK(p.min_p == 0.125F);
  CHECK(p.seed == 42);
  CHECK(p.stop == std::vector<std::string>{"end"});
  CHECK(p.stop_token_ids == std::vector<TokenId>{3});
  CHECK(p.include_stop_str_in_output);
  CHECK(p.ignore_eos);
  CHECK(p.logprobs == 0);
  CHECK(p.prompt_logprobs == 5);
  CHECK_FALSE(p.skip_special_tokens);
  CHECK(out.priority == -5);
  CHECK(out.return_token_ids);
  CHECK_FALSE(out.use_prefix_cache);  // cached tokens have no logits
  CHECK(std::get<std::vector<TokenId>>(out.prompt) == std::vector<TokenId>{1});
}

TEST_CASE("a model without tokenizer takes ids and refuses text") {
  ModelLimits ids_only = limits();
  ids_only.has_tokenizer = false;
  ids_only.has_chat_template = false;
  CHECK(convert(complete(), ids_only).ok());
  auto text = complete();
  text.mutable_prompt()->set_text("x");
  check_verdict(convert(text, ids_only).status(), Verdict::kInvalid, "prompt.text");
  check_verdict(convert(chat(), ids_only).status(), Verdict::kInvalid, "model");
  auto stop = complete();
  stop.mutable_sampling()->add_stop("x");
  check_verdict(convert(stop, ids_only).status(), Verdict::kInvalid, "sampling.stop");
}

TEST_CASE("a text that can not fit is refused before it is tokenised") {
  ModelLimits bounded = limits();
  bounded.longest_token_bytes = 10;
  auto text = complete();
  text.mutable_prompt()->set_text(std::string(10 * kContext, 'x'));
  CHECK(convert(text, bounded).ok());
  text.mutable_prompt()->set_text(std::string(10 * kContext + 1, 'x'));
  check_verdict(convert(text, bounded).status(), Verdict::kTooLong, "prompt.text");
  auto conversation = chat();
  conversation.mutable_messages(0)->mutable_content(0)->set_text(
      std::string(10 * kContext + 1, 'x'));
  check_verdict(convert(conversation, bounded).status(), Verdict::kTooLong, "messages");
}

TEST_CASE("the other requests are bounded too") {
  v1::TokenizeRequest tokenize;
  check_verdict(validate(tokenize, limits()), Verdict::kInvalid, "text");
  tokenize.set_text("");
  CHECK(validate(tokenize, limits()).ok());
  *tokenize.mutable_chat() = chat();
  CHECK(validate(tokenize, limits()).ok());
  tokenize.mutable_chat()->mutable_messages(0)->clear_role();
  check_verdict(validate(tokenize, limits()), Verdict::kInvalid, "chat.messages[0].role");

  v1::DetokenizeRequest detokenize;
  detokenize.add_token_ids(kVocab);
  check_verdict(validate(detokenize, limits()), Verdict::kInvalid, "token_ids");

  v1::EmbedRequest embed;
  check_verdict(validate(embed, limits()), Verdict::kInvalid, "inputs");
  embed.add_inputs();
  check_verdict(validate(embed, limits()), Verdict::kInvalid, "inputs[0]");
  embed.mutable_inputs(0)->set_text("x");
  CHECK(validate(embed, limits()).ok());
  embed.set_dimensions(0);
  check_verdict(validate(embed, limits()), Verdict::kInvalid, "dimensions");

  v1::RerankRequest rerank;
  rerank.set_query("q");
  check_verdict(validate(rerank, limits()), Verdict::kInvalid, "documents");
  rerank.add_documents("d");
  CHECK(validate(rerank, limits()).ok());
  rerank.set_top_n(0);
  check_verdict(validate(rerank, limits()), Verdict::kInvalid, "top_n");

  v1::ClassifyRequest classify;
  check_verdict(validate(classify, limits()), Verdict::kInvalid, "inputs");
}

}  // namespace pelton
