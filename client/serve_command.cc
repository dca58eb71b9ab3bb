// pelton serve: runs the sibling pelton-server with the same arguments.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "client/command.h"

namespace pelton {
namespace {

int run_serve(const std::vector<std::string>& arguments) {
  const std::string program = own_folder() + "/pelton-server";
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return report_error(
      absl::NotFoundError(fmt::format("cannot start {}: {}", program, std::strerror(errno))));
}

}  // namespace

void add_serve_command(CLI::App& app, Runner& run) {
  CLI::App* command =
      app.add_subcommand("serve", "Serve a model: takes what pelton-server takes (serve --help)");
  command->prefix_command();
  command->set_help_flag();  // --help is the server's
  command->callback([command, &run] {
    run = [arguments = command->remaining()] { return run_serve(arguments); };
  });
}

}  // namespace pelton
