#include "server/options.h"

#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace pelton {
namespace {

StatusOr<ParsedCommand> parse(std::vector<const char*> arguments,
                              std::vector<std::string> environment = {}) {
  arguments.insert(arguments.begin(), "pelton-server");
  return parse_options(arguments, environment);
}

std::string error_of(const StatusOr<ParsedCommand>& parsed) {
  return std::string(parsed.status().message());
}

}  // namespace

TEST_CASE("every default in the table is valid and takes effect") {
  const auto parsed = parse({"model.gguf"});
  REQUIRE(parsed.ok());
  CHECK(parsed->options.model == "model.gguf");
  CHECK(parsed->options.http == "127.0.0.1:8000");
  CHECK(parsed->options.grpc == "127.0.0.1:8001");
  CHECK(parsed->options.max_num_seqs == 64);
  CHECK(parsed->options.enable_prefix_caching);
  CHECK(parsed->options.drain_timeout_s == 30.0);
}

TEST_CASE("flags win over environment over file over defaults") {
  const TempDir dir;
  const std::string path = dir.path() / "c.yaml";
  std::ofstream(path) << "model: from-file\nmax_num_seqs: 3\nblock_size: 16\nthreads: 2\n"
                         "cors_allowed_origins: [http://a, http://b]\n";
  const auto parsed = parse({"--config", path.c_str(), "--threads", "5"},
                            {"PELTON_MAX_NUM_SEQS=4", "PELTON_THREADS=9", "HOME=/"});
  REQUIRE(parsed.ok());
  CHECK(parsed->options.model == "from-file");
  CHECK(parsed->options.max_num_seqs == 4);
  CHECK(parsed->options.block_size == 16);
  CHECK(parsed->options.threads == 5);
  CHECK(parsed->options.cors_allowed_origins == "http://a,http://b");
}

TEST_CASE("unknown names are errors that tell the nearest one") {
  CHECK(error_of(parse({"m", "--max-num-seq", "3"})).find("did you mean '--max-num-seqs'") !=
        std::string::npos);
  CHECK(error_of(parse({"m", "stray"})).find("unexpected argument 'stray'") != std::string::npos);
  const TempDir dir;
  const std::string path = dir.path() / "c.yaml";
  std::ofstream(path) << "max_num_sequences: 3\n";
  const std::string error = error_of(parse({"m", "--config", path.c_str()}));
  CHECK(error.find("unknown key 'max_num_sequences' (did you mean 'max_num_seqs'?)") !=
        std::string::npos);
}

TEST_CASE("values out of bounds name their source") {
  CHECK(error_of(parse({"m", "--max-num-seqs", "0"})).starts_with("--max-num-seqs"));
  CHECK(error_of(parse({"m"}, {"PELTON_BLOCK_SIZE=many"})).starts_with("PELTON_BLOCK_SIZE"));
  CHECK_FALSE(parse({"m", "--device", "tpu"}).ok());
  CHECK_FALSE(parse({}).ok());
}

TEST_CASE("what Kubernetes puts into the environment does no harm") {
  const auto parsed = parse({"m"}, {"PELTON_PORT=tcp://10.0.0.1:80", "PELTON_SERVICE_HOST=10.0.0.1",
                                    "PELTON_MODEL_CACHE=/x"});
  REQUIRE(parsed.ok());
  CHECK(parsed->options.http == "127.0.0.1:8000");
  CHECK(parsed->options.warnings.size() == 2);
}

TEST_CASE("host and port fill what the addresses leave open") {
  auto parsed = parse({"m", "--port", "9000"});
  REQUIRE(parsed.ok());
  CHECK(parsed->options.http == "127.0.0.1:9000");
  CHECK(parsed->options.grpc == "127.0.0.1:8001");
  parsed = parse({"m", "--host", "::1", "--http", "127.0.0.1:1"});
  REQUIRE(parsed.ok());
  CHECK(parsed->options.http == "127.0.0.1:1");
  CHECK(parsed->options.grpc == "[::1]:8001");
}

TEST_CASE("a public address needs a key") {
  CHECK_FALSE(parse({"m", "--host", "0.0.0.0"}).ok());
  CHECK_FALSE(parse({"m", "--grpc", "10.1.2.3:1"}).ok());
  CHECK(parse({"m", "--host", "0.0.0.0", "--api-key", "k"}).ok());
  CHECK(parse({"m", "--host", "0.0.0.0"}, {"PELTON_API_KEY=k"}).ok());
}

TEST_CASE("listen addresses are parsed whole or refused") {
  CHECK(parse_listen_address("http", "[::1]:80")->host == "::1");
  CHECK(parse_listen_address("http", "localhost:0")->loopback);
  CHECK(parse_listen_address("http", "127.1.2.3:80")->loopback);
  CHECK_FALSE(parse_listen_address("http", "0.0.0.0:80")->loopback);
  CHECK_FALSE(parse_listen_address("http", "127.example.org:80")->loopback);
  for (const char* bad : {"", "x", ":80", "h:", "h:65536", "h:-1", "h:8x", "::1:80", "[::1:80"}) {
    INFO(bad);
    CHECK_FALSE(parse_listen_address("http", bad).ok());
  }
}

TEST_CASE("malformed settings files are errors with a line") {
  const TempDir dir;
  const std::string path = dir.path() / "c.yaml";
  for (const char* text : {"a: [", "- x\n", "block_size: {a: 1}\n",
                           "block_size: 16\nblock_size: 32\n", "\t: :\n", "block_size: [[1]]\n"}) {
    INFO(text);
    std::ofstream(path, std::ios::trunc) << text;
    const auto parsed = parse({"m", "--config", path.c_str()});
    REQUIRE_FALSE(parsed.ok());
    CHECK(error_of(parsed).find("c.yaml") != std::string::npos);
  }
  CHECK_FALSE(parse({"m", "--config", "/nonexistent"}).ok());
}

TEST_CASE("help and docs list every setting") {
  const auto help = parse({"--help"});
  REQUIRE(help.ok());
  CHECK(help->exit_now);
  const auto docs = parse({"--print-config-docs"});
  REQUIRE(docs.ok());
  for (const ConfigEntry& entry : server_config_table()) {
    INFO(entry.name);
    CHECK(help->output.find("--" + std::string(entry.name)) != std::string::npos);
    CHECK(docs->output.find("`--" + std::string(entry.name) + "`") != std::string::npos);
  }
}

TEST_CASE("the configuration page is the table as it is now") {
  std::ifstream file(std::string(PELTON_SOURCE_DIR) + "/docs/configuration.md");
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto docs = parse({"--print-config-docs"});
  REQUIRE(docs.ok());
  INFO("pelton-server --print-config-docs > docs/configuration.md");
  CHECK(page == docs->output);
}

TEST_CASE("the files in configs are valid") {
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(PELTON_SOURCE_DIR) + "/configs")) {
    const std::string path = entry.path().string();
    INFO(path);
    const auto parsed = parse({"m", "--config", path.c_str()}, {"PELTON_API_KEY=k"});
    CHECK(parsed.status() == absl::OkStatus());
  }
}

}  // namespace pelton
