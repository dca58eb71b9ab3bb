#include "core/config_table.h"

#include <array>

#include "tests/support/catch.h"

namespace pelton {
namespace {

constexpr std::array kTable = {
    ConfigEntry{"max-num-seqs", ConfigType::kInt, "64", "Batching", "Sequences a step.", 1, 4096},
    ConfigEntry{"kv-cache-memory-bytes", ConfigType::kBytes, "", "Memory", "KV size.", 0, 1e15},
    ConfigEntry{"device", ConfigType::kChoice, "auto", "Model", "Where.", 0, 0, "auto|cpu|cuda"},
    ConfigEntry{"ratio", ConfigType::kFloat, "0.9", "Memory", "Share.", 0, 1},
    ConfigEntry{"enable-x", ConfigType::kBool, "true", "Model", "X."},
};

}  // namespace

TEST_CASE("config values are parsed by type and bounded at both ends") {
  CHECK(std::get<int64_t>(*parse_config_value(kTable[0], "1")) == 1);
  CHECK(std::get<int64_t>(*parse_config_value(kTable[0], "4096")) == 4096);
  for (const char* bad : {"0", "4097", "", "1x", "1.5", "99999999999999999999"}) {
    INFO(bad);
    CHECK(parse_config_value(kTable[0], bad).status().code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(std::get<int64_t>(*parse_config_value(kTable[1], "4GiB")) == int64_t{4} << 30);
  CHECK(std::get<int64_t>(*parse_config_value(kTable[1], "2MB")) == 2000000);
  CHECK(std::get<int64_t>(*parse_config_value(kTable[1], "17")) == 17);
  CHECK_FALSE(parse_config_value(kTable[1], "9999999999GiB").ok());
  CHECK_FALSE(parse_config_value(kTable[1], "GiB").ok());
  CHECK(std::get<double>(*parse_config_value(kTable[3], "0.5")) == 0.5);
  for (const char* bad : {"nan", "inf", "1.1", "-0.1"}) {
    CHECK_FALSE(parse_config_value(kTable[3], bad).ok());
  }
  CHECK(std::get<bool>(*parse_config_value(kTable[4], "off")) == false);
  CHECK(std::get<bool>(*parse_config_value(kTable[4], "TRUE")));
  CHECK_FALSE(std::get<bool>(*parse_config_value(kTable[4], "False")));
  CHECK_FALSE(parse_config_value(kTable[4], "maybe").ok());
  CHECK_FALSE(parse_config_value(kTable[2], "auto|cpu").ok());
  CHECK(std::get<std::string>(*parse_config_value(kTable[2], "cuda")) == "cuda");
}

TEST_CASE("a mistyped setting is answered with the nearest one") {
  CHECK(nearest_config_name(kTable, "max_num_seq") == "max-num-seqs");
  CHECK(nearest_config_name(kTable, "devise") == "device");
  CHECK(nearest_config_name(kTable, "zzzzzzzz") == std::nullopt);
  CHECK(find_config_entry(kTable, "max_num_seqs") == &kTable[0]);
  CHECK(config_env_name("max-num-seqs") == "PELTON_MAX_NUM_SEQS");
}

TEST_CASE("the docs page lists every setting") {
  const std::string page = config_table_markdown(kTable);
  for (const ConfigEntry& entry : kTable) {
    CHECK(page.find("`--" + std::string(entry.name) + "`") != std::string::npos);
  }
}

}  // namespace pelton
