#include "model/formats/safetensors.h"

#include <functional>
#include <limits>

#include "tests/support/catch.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_dir.h"

namespace pelton {
namespace {

const std::vector<float> kSix = {1, 2, 3, 4, 5, 6};

// A file of the one tensor "a" ([2, 3] F32) with the given JSON entry, and 24 bytes of data.
Status parse_entry(const std::string& entry, const std::string& rest = "") {
  const std::string file = safetensors_bytes("{\"a\":" + entry + rest + "}", bytes_of(kSix));
  return parse_safetensors(as_bytes(file)).status();
}

void check_invalid(const Status& status, const std::string& part) {
  INFO(std::string(status.message()));
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()).find(part) != std::string::npos);
}

std::string index_json(const std::string& weight_map) {
  return "{\"metadata\": {\"total_size\": 24}, \"weight_map\": {" + weight_map + "}}";
}

}  // namespace

TEST_CASE("a safetensors file gives back what was written") {
  TempDir dir;
  const std::string path = (dir.path() / "x.safetensors").string();
  write_file(path, write_safetensors({{"b", "BF16", {4}, "01234567"},
                                      {"a", "F32", {2, 3}, bytes_of(kSix)},
                                      {"scalar", "F32", {}, bytes_of({{7.0F}})},
                                      {"none", "F32", {0, 5}, ""},
                                      {"mask", "BOOL", {3}, "\1\1\1"}}));
  auto model = SafetensorsModel::open(path);
  REQUIRE(model.ok());
  CHECK((*model)->tensors().size() == 5);
  const SafetensorsTensor* a = (*model)->find("a");
  REQUIRE(a != nullptr);
  CHECK(a->dtype == DType::kF32);
  CHECK(a->shape == std::vector<int64_t>{2, 3});
  CHECK(std::memcmp(a->data.data(), kSix.data(), 24) == 0);
  CHECK((*model)->find("b")->dtype == DType::kBF16);
  CHECK((*model)->find("scalar")->shape.empty());
  CHECK((*model)->find("none")->data.empty());
  CHECK((*model)->file_of(*(*model)->find("none")) == nullptr);
  CHECK((*model)->find("mask")->dtype == std::nullopt);
  CHECK((*model)->find("mask")->dtype_name == "BOOL");
  CHECK((*model)->find("absent") == nullptr);
}

TEST_CASE("a safetensors header that lies about its size is refused") {
  check_invalid(parse_safetensors(as_bytes("1234567")).status(), "no room");
  std::string file = write_safetensors({{"a", "F32", {2, 3}, bytes_of(kSix)}});
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1} << 20, uint64_t{1} << 40, std::numeric_limits<uint64_t>::max()}) {
    std::memcpy(file.data(), &length, 8);
    INFO(length);
    CHECK(parse_safetensors(as_bytes(file)).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("each malformed safetensors entry is a typed error that names the tensor") {
  const std::string good = R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";
  REQUIRE(parse_entry(good).ok());
  check_invalid(parse_entry("3"), "tensor a: entry is not an object");
  check_invalid(parse_entry(R"({"shape":[2,3],"data_offsets":[0,24]})"), "dtype is not a string");
  check_invalid(parse_entry(R"({"dtype":"F31","shape":[2,3],"data_offsets":[0,24]})"),
                "unknown dtype F31");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":6,"data_offsets":[0,24]})"), "shape");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,-3],"data_offsets":[0,24]})"),
                "dimension");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,3.0],"data_offsets":[0,24]})"),
                "dimension");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,3,1,1,1,1,1,1,1],"data_offsets":[0,24]})"),
                "more than 8");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,4],"data_offsets":[0,24]})"),
                "ask for 32 bytes");
  check_invalid(
      parse_entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,24]})"),
      "overflows");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0]})"), "two");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,3],"data_offsets":[-1,23]})"), "offsets");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,3],"data_offsets":[24,0]})"), "outside");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2,3],"data_offsets":[1,25]})"), "outside");
  check_invalid(
      parse_entry(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,9223372036854775807]})"),
      "outside");
  CHECK(error_field(parse_entry("3")) == "a");
}

TEST_CASE("safetensors data may neither overlap nor leave gaps") {
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[5],"data_offsets":[0,20]})"), "4 bytes");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[5],"data_offsets":[4,24]})"), "gap");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})",
                            R"(,"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]})"),
                "overlap");
  check_invalid(parse_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})",
                            R"(,"b":{"dtype":"F32","shape":[3],"data_offsets":[12,24]})"),
                "gap");
}

TEST_CASE("duplicate and malformed names of safetensors are refused") {
  const std::string half = R"({"dtype":"F32","shape":[3],"data_offsets":[0,12]})";
  check_invalid(parse_entry(half, ",\"a\":" + half), "duplicate key");
  check_invalid(parse_entry(half, ",\"\":" + half), "name is empty");
  check_invalid(parse_entry(half, ",\"\xC3\":" + half), "malformed JSON");
  check_invalid(parse_entry(half, ",\"__metadata__\":{\"x\":1}"), "__metadata__");
  check_invalid(parse_entry(half, ",\"__metadata__\":[]"), "__metadata__");
}

TEST_CASE("shards are joined by their index") {
  TempDir dir;
  const std::string a = write_safetensors({{"a", "F32", {2, 3}, bytes_of(kSix)}});
  const std::string b = write_safetensors({{"b", "F32", {6}, bytes_of(kSix)}});
  write_file((dir.path() / "m-1.safetensors").string(), a);
  write_file((dir.path() / "m-2.safetensors").string(), b);
  const std::string index = (dir.path() / "model.safetensors.index.json").string();
  const auto open = [&](const std::string& map) {
    write_file(index, index_json(map));
    return SafetensorsModel::open(dir.path().string());
  };
  auto model = open(R"("a": "m-1.safetensors", "b": "m-2.safetensors")");
  REQUIRE(model.ok());
  CHECK((*model)->find("a") != nullptr);
  CHECK((*model)->find("b")->shape == std::vector<int64_t>{6});
  for (const SafetensorsTensor& tensor : (*model)->tensors()) {
    std::vector<float> values(kSix.size());
    REQUIRE((*model)->file_of(tensor) != nullptr);
    (*model)->file_of(tensor)->read(tensor.data, values.data());
    CHECK(values == kSix);
  }

  check_invalid(open(R"("a": "m-2.safetensors", "b": "m-1.safetensors")").status(),
                "not in its shard");
  check_invalid(open(R"("a": "../m-1.safetensors")").status(), "plain");
  check_invalid(open(R"("a": "/etc/passwd")").status(), "plain");
  check_invalid(open(R"("a": "")").status(), "plain");
  check_invalid(open(R"("a": 1)").status(), "plain");
  check_invalid(open("").status(), "no weight_map");
  CHECK(open(R"("a": "m-3.safetensors")").status().code() == absl::StatusCode::kNotFound);

  write_file((dir.path() / "m-2.safetensors").string(), a);
  check_invalid(open(R"("a": "m-1.safetensors", "a2": "m-2.safetensors")").status(), "a2");
  write_file((dir.path() / "m-2.safetensors").string(),
             write_safetensors({{"a", "F32", {6}, bytes_of(kSix)}, {"c", "F32", {0}, ""}}));
  check_invalid(open(R"("a": "m-1.safetensors", "c": "m-2.safetensors")").status(), "two shards");
}

TEST_CASE("a missing or unsuitable safetensors path is a typed error") {
  TempDir dir;
  CHECK(SafetensorsModel::open(dir.path().string()).status().code() == absl::StatusCode::kNotFound);
  CHECK(SafetensorsModel::open((dir.path() / "no").string()).status().code() ==
        absl::StatusCode::kNotFound);
  write_file((dir.path() / "empty").string(), "");
  check_invalid(SafetensorsModel::open((dir.path() / "empty").string()).status(), "empty file");
  check_invalid(SafetensorsModel::open("/dev/null").status(), "not a regular file");
}

}  // namespace pelton
