// The `pelton` command.
#include "client/command.h"

int main(int argc, char** argv) {
  CLI::App app("Pelton: talk to, measure and run a Pelton inference server.", "pelton");
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 the server refused the request, 4 "
      "not\n"
      "reachable, draining or overloaded, 5 the API key is missing or wrong, 6 --timeout passed, "
      "130\n"
      "Ctrl-C.");
  app.set_version_flag("--version", std::string("pelton ") + PELTON_VERSION);
  pelton::Runner run;
  pelton::add_serve_command(app, run);
  pelton::add_chat_command(app, run);
  pelton::add_complete_command(app, run);
  pelton::add_token_commands(app, run);
  pelton::add_model_commands(app, run);
  pelton::add_bench_command(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? pelton::kExitOk : pelton::kExitUsage;
  }
  return run();
}
