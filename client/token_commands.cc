// pelton tokenize, pelton detokenize.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "client/command.h"

namespace pelton {
namespace {

struct TokenFlags {
  ConnectionFlags connection;
  std::string model;
  std::string text;
  std::vector<int> ids;
  bool strings = false;
  bool no_special = false;
};

int run_tokenize(const TokenFlags& flags) {
  v1::TokenizeRequest request;
  request.set_model(flags.model);
  request.set_text(flags.text == "-" ? std::string(std::istreambuf_iterator<char>(std::cin),
                                                   std::istreambuf_iterator<char>())
                                     : flags.text);
  request.set_add_special_tokens(!flags.no_special);
  request.set_return_token_strings(flags.strings);
  const auto response = Client(flags.connection.options()).tokenize(request);
  if (!response.ok()) return report_error(response.status());
  if (!flags.strings) {
    std::printf("%s\n", fmt::format("{}", fmt::join(response->token_ids(), ",")).c_str());
    return kExitOk;
  }
  for (int i = 0; i < response->token_ids_size(); ++i) {
    std::printf("%d\t%s\n", response->token_ids(i), response->token_strings(i).c_str());
  }
  return kExitOk;
}

int run_detokenize(const TokenFlags& flags) {
  v1::DetokenizeRequest request;
  request.set_model(flags.model);
  for (const int id : flags.ids) request.add_token_ids(id);
  request.set_skip_special_tokens(flags.no_special);
  const auto response = Client(flags.connection.options()).detokenize(request);
  if (!response.ok()) return report_error(response.status());
  std::printf("%s\n", response->text().c_str());
  return kExitOk;
}

}  // namespace

void add_token_commands(CLI::App& app, Runner& run) {
  auto flags = std::make_shared<TokenFlags>();
  CLI::App* tokenize = app.add_subcommand("tokenize", "Text to token ids");
  flags->connection.add_to(*tokenize);
  tokenize->add_option("--model", flags->model, "Served name");
  tokenize->add_flag("--strings", flags->strings, "One token a line, with its text");
  tokenize->add_flag("--no-special-tokens", flags->no_special, "Do not add BOS and the like");
  tokenize->add_option("TEXT", flags->text, "Text; - reads standard input")->required();
  tokenize->callback([flags, &run] { run = [flags] { return run_tokenize(*flags); }; });

  auto back = std::make_shared<TokenFlags>();
  CLI::App* detokenize = app.add_subcommand("detokenize", "Token ids to text");
  back->connection.add_to(*detokenize);
  detokenize->add_option("--model", back->model, "Served name");
  detokenize->add_flag("--skip-special-tokens", back->no_special, "Leave special tokens out");
  detokenize->add_option("IDS", back->ids, "Token ids: 1,2,3")->delimiter(',')->required();
  detokenize->callback([back, &run] { run = [back] { return run_detokenize(*back); }; });
}

}  // namespace pelton
