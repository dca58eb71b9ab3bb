// pelton models, pelton health.
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <cstdio>

#include "client/command.h"

namespace pelton {
namespace {

struct ModelFlags {
  ConnectionFlags connection;
  std::string service;
  bool json = false;
};

int run_models(const ModelFlags& flags) {
  const auto response = Client(flags.connection.options()).list_models();
  if (!response.ok()) return report_error(response.status());
  if (flags.json) {
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = true;
    options.preserve_proto_field_names = true;
    std::string text;
    if (!google::protobuf::util::MessageToJsonString(*response, &text, options).ok()) {
      return report_error(absl::InternalError("the answer is no JSON"));
    }
    std::printf("%s", text.c_str());
    return kExitOk;
  }
  std::printf("%-40s %-10s %-8s %10s %10s  %s\n", "NAME", "KIND", "WEIGHTS", "PARAMETERS",
              "CONTEXT", "DEVICE");
  for (const v1::Model& model : response->models()) {
    std::printf("%-40s %-10s %-8s %9.1fM %10d  %s\n", model.name().c_str(),
                model.architecture().c_str(), model.weight_format().c_str(),
                static_cast<double>(model.parameters()) / 1e6, model.max_model_len(),
                model.device().c_str());
  }
  return kExitOk;
}

int run_health(const ModelFlags& flags) {
  ClientOptions options = flags.connection.options();
  // A probe that hangs is a failed probe.
  if (options.timeout.count() == 0) options.timeout = std::chrono::seconds(5);
  const auto healthy = Client(options).healthy(flags.service);
  if (!healthy.ok()) return report_error(healthy.status());
  std::printf("%s\n", *healthy ? "SERVING" : "NOT_SERVING");
  return *healthy ? kExitOk : kExitFailed;
}

}  // namespace

void add_model_commands(CLI::App& app, Runner& run) {
  auto flags = std::make_shared<ModelFlags>();
  CLI::App* models = app.add_subcommand("models", "List the models of a server");
  flags->connection.add_to(*models);
  models->add_flag("--json", flags->json, "The answer as JSON");
  models->callback([flags, &run] { run = [flags] { return run_models(*flags); }; });

  auto probe = std::make_shared<ModelFlags>();
  CLI::App* health = app.add_subcommand("health", "Ask whether a server serves; exit 0 if so");
  probe->connection.add_to(*health);
  health->add_option("--service", probe->service, "gRPC service; default: the whole server");
  health->callback([probe, &run] { run = [probe] { return run_health(*probe); }; });
}

}  // namespace pelton
