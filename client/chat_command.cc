// pelton chat: one question, or a conversation in the terminal.
#include <fmt/format.h>
#include <histedit.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "client/command.h"

namespace pelton {
namespace {

struct ChatFlags {
  ConnectionFlags connection;
  SamplingFlags sampling;
  std::string model;
  std::string system;
  std::string question;
  bool stats = false;
};

constexpr char kHelp[] =
    "/reset forgets the conversation, /system TEXT sets the system prompt and forgets, /exit or\n"
    "Ctrl-D ends. Ctrl-C stops an answer.\n";

// Lines from the terminal with editing and history, or plain lines from a pipe.
class LineReader {
 public:
  LineReader() : interactive_(isatty(STDIN_FILENO) != 0) {
    if (!interactive_) return;
    history_ = history_init();
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    edit_ = el_init("pelton", stdin, stdout, stderr);
    el_set(edit_, EL_PROMPT, &LineReader::prompt);
    el_set(edit_, EL_EDITOR, "emacs");
    el_set(edit_, EL_HIST, history, history_);
    el_set(edit_, EL_SIGNAL, 1);
  }
  ~LineReader() {
    if (edit_ != nullptr) el_end(edit_);
    if (history_ != nullptr) history_end(history_);
  }
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  bool interactive() const { return interactive_; }

  // False at the end of input.
  bool read(std::string& line) {
    if (!interactive_) return static_cast<bool>(std::getline(std::cin, line));
    int count = 0;
    const char* text = el_gets(edit_, &count);
    if (text == nullptr || count <= 0) return false;
    line.assign(text, static_cast<size_t>(count));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    if (!line.empty()) {
      HistEvent event;
      history(history_, &event, H_ENTER, line.c_str());
    }
    return true;
  }

 private:
  static char* prompt(EditLine*) {
    static char text[] = "> ";
    return text;
  }
  bool interactive_;
  EditLine* edit_ = nullptr;
  History* history_ = nullptr;
};

void add_text(v1::ChatRequest& request, v1::Role role, const std::string& text) {
  v1::ChatMessage* message = request.add_messages();
  message->set_role(role);
  message->add_content()->set_text(text);
}

// Streams one answer to stdout and appends it to the conversation.
Status answer(Client& client, v1::ChatRequest& request, bool stats) {
  Cancellation cancellation;
  const InterruptGuard guard(&cancellation);
  AnswerClock clock;
  v1::Usage usage;
  std::string text;
  const Status status = client.chat_stream(
      request,
      [&](const v1::ChatStreamResponse& message) {
        if (message.has_usage()) usage = message.usage();
        for (const v1::ChatChoice& choice : message.choices()) {
          for (const v1::ContentPart& part : choice.message().content()) {
            if (part.text().empty()) continue;
            clock.on_tokens();
            text += part.text();
            std::fwrite(part.text().data(), 1, part.text().size(), stdout);
            std::fflush(stdout);
          }
        }
        return true;
      },
      &cancellation);
  if (!text.empty()) std::printf("\n");
  if (status.ok() && stats) clock.print(usage);
  // What was said before a Ctrl-C belongs to the conversation too.
  if (!text.empty()) add_text(request, v1::ROLE_ASSISTANT, text);
  return status;
}

int converse(Client& client, v1::ChatRequest request, const ChatFlags& flags) {
  LineReader reader;
  if (reader.interactive()) std::printf("%s", kHelp);
  std::string system = flags.system;
  const auto reset = [&] {
    request.clear_messages();
    if (!system.empty()) add_text(request, v1::ROLE_SYSTEM, system);
  };
  reset();
  std::string line;
  while (reader.read(line)) {
    if (line == "/exit" || line == "/quit") break;
    if (line.empty()) continue;
    if (line == "/help") {
      std::printf("%s", kHelp);
    } else if (line == "/reset") {
      reset();
    } else if (line.starts_with("/system ")) {
      system = line.substr(8);
      reset();
    } else {
      add_text(request, v1::ROLE_USER, line);
      const Status status = answer(client, request, flags.stats);
      if (status.ok() || absl::IsCancelled(status)) continue;
      const int code = report_error(status);
      if (!reader.interactive()) return code;
      // The refused question is forgotten, so that the next one is not refused for it.
      if (request.messages(request.messages_size() - 1).role() == v1::ROLE_USER) {
        request.mutable_messages()->RemoveLast();
      }
    }
  }
  return kExitOk;
}

int run_chat(const ChatFlags& flags) {
  Client client(flags.connection.options());
  v1::ChatRequest request;
  request.set_model(flags.model);
  flags.sampling.fill(request.mutable_sampling());
  if (flags.question.empty()) return converse(client, std::move(request), flags);
  if (!flags.system.empty()) add_text(request, v1::ROLE_SYSTEM, flags.system);
  add_text(request, v1::ROLE_USER, flags.question);
  const Status status = answer(client, request, flags.stats);
  return status.ok() ? kExitOk : report_error(status);
}

}  // namespace

void add_chat_command(CLI::App& app, Runner& run) {
  auto flags = std::make_shared<ChatFlags>();
  CLI::App* command = app.add_subcommand("chat", "Ask one question, or converse");
  flags->connection.add_to(*command);
  flags->sampling.add_to(*command);
  command->add_option("--model", flags->model, "Served name; default: the server's first model");
  command->add_option("--system", flags->system, "System prompt");
  command->add_flag("--stats", flags->stats, "Print time to first token and speed");
  command->add_option("QUESTION", flags->question, "One question; without it a conversation");
  command->callback([flags, &run] { run = [flags] { return run_chat(*flags); }; });
}

}  // namespace pelton
