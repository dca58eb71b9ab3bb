// pelton complete: continues a prompt given as text, as token ids, or on standard input.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "client/command.h"

namespace pelton {
namespace {

struct CompleteFlags {
  ConnectionFlags connection;
  SamplingFlags sampling;
  std::string model;
  std::string prompt;
  std::vector<int> ids;
  bool stats = false;
  bool show_ids = false;
};

int run_complete(const CompleteFlags& flags) {
  v1::CompleteRequest request;
  request.set_model(flags.model);
  flags.sampling.fill(request.mutable_sampling());
  request.set_return_token_ids(flags.show_ids);
  if (!flags.ids.empty()) {
    for (const int id : flags.ids) request.mutable_prompt()->mutable_token_ids()->add_ids(id);
  } else if (flags.prompt == "-") {
    request.mutable_prompt()->set_text(
        std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()));
  } else {
    request.mutable_prompt()->set_text(flags.prompt);
  }

  Client client(flags.connection.options());
  Cancellation cancellation;
  const InterruptGuard guard(&cancellation);
  AnswerClock clock;
  v1::Usage usage;
  std::string ids;
  const Status status = client.complete_stream(
      request,
      [&](const v1::CompleteStreamResponse& message) {
        if (message.has_usage()) usage = message.usage();
        for (const v1::CompletionChoice& choice : message.choices()) {
          if (!choice.text().empty()) clock.on_tokens();
          std::fwrite(choice.text().data(), 1, choice.text().size(), stdout);
          std::fflush(stdout);
          for (const int id : choice.token_ids()) {
            ids += fmt::format("{}{}", ids.empty() ? "" : ",", id);
          }
        }
        return true;
      },
      &cancellation);
  std::printf("\n");
  if (!status.ok()) return report_error(status);
  if (flags.show_ids) std::printf("%s\n", ids.c_str());
  if (flags.stats) clock.print(usage);
  return kExitOk;
}

}  // namespace

void add_complete_command(CLI::App& app, Runner& run) {
  auto flags = std::make_shared<CompleteFlags>();
  CLI::App* command = app.add_subcommand("complete", "Continue a prompt");
  flags->connection.add_to(*command);
  flags->sampling.add_to(*command);
  command->add_option("--model", flags->model, "Served name; default: the server's first model");
  command->add_flag("--stats", flags->stats, "Print time to first token and speed");
  command->add_flag("--show-ids", flags->show_ids, "Print the generated token ids too");
  CLI::Option* ids =
      command->add_option("--ids", flags->ids, "Prompt as token ids: 1,2,3")->delimiter(',');
  command->add_option("PROMPT", flags->prompt, "Text to continue; - reads standard input")
      ->excludes(ids);
  command->callback([flags, &run] {
    if (flags->prompt.empty() && flags->ids.empty()) {
      throw CLI::RequiredError("PROMPT or --ids");
    }
    run = [flags] { return run_complete(*flags); };
  });
}

}  // namespace pelton
