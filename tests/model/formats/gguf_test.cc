#include "model/formats/gguf.h"

#include <fmt/format.h>

#include <limits>

#include "tests/support/catch.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_dir.h"

namespace pelton {
namespace {

const std::vector<float> kSix = {1, 2, 3, 4, 5, 6};

Status parse(const std::string& bytes) {
  return GgufFile::parse(as_bytes(bytes)).status();
}

void check_error(const Status& status, absl::StatusCode code, const std::string& part) {
  INFO(std::string(status.message()));
  CHECK(status.code() == code);
  CHECK(std::string(status.message()).find(part) != std::string::npos);
}

void check_invalid(const Status& status, const std::string& part) {
  check_error(status, absl::StatusCode::kInvalidArgument, part);
}

std::string number_bytes(uint64_t value, size_t width) {
  return {reinterpret_cast<const char*>(&value), width};
}

// The status of a file that holds one malformed value.
Status parse_value(uint32_t type, const std::string& value) {
  GgufWriter writer;
  writer.add_raw("bad.key", type, value);
  return parse(writer.bytes(false));
}

}  // namespace

TEST_CASE("GGUF metadata of every type is read as written") {
  const uint32_t version = GENERATE(2U, 3U);
  GgufWriter writer(version);
  writer.add("u8", GgufType::kU8, uint8_t{200});
  writer.add("i8", GgufType::kI8, int8_t{-100});
  writer.add("u16", GgufType::kU16, uint16_t{60000});
  writer.add("i16", GgufType::kI16, int16_t{-30000});
  writer.add_u32("u32", 4000000000U);
  writer.add("i32", GgufType::kI32, int32_t{-2000000000});
  writer.add_f32("f32", 1.5F);
  writer.add_bool("bool", true);
  writer.add_string("string", "h\xC3\xA9");
  writer.add("u64", GgufType::kU64, std::numeric_limits<uint64_t>::max());
  writer.add("i64", GgufType::kI64, std::numeric_limits<int64_t>::min());
  writer.add("f64", GgufType::kF64, 2.5);
  writer.add_strings("strings", {"a", "", "bc"});
  writer.add_array<float>("floats", GgufType::kF32, {0.5F, -1.0F});
  writer.add_array<int32_t>("ints", GgufType::kI32, {1, -2, 3});
  writer.add_nested("nested", {{1, 2}, {}, {3}});
  const std::string bytes = writer.bytes();
  auto file = GgufFile::parse(as_bytes(bytes));
  REQUIRE(file.ok());
  const GgufFile& gguf = **file;
  CHECK(gguf.version() == version);
  CHECK(gguf.keys().size() == 16);
  CHECK(*gguf.get_int("u8") == 200);
  CHECK(*gguf.get_int("i8") == -100);
  CHECK(*gguf.get_int("u16") == 60000);
  CHECK(*gguf.get_int("i16") == -30000);
  CHECK(*gguf.get_int("u32") == 4000000000);
  CHECK(*gguf.get_int("i32") == -2000000000);
  CHECK(*gguf.get_double("f32") == 1.5);
  CHECK(*gguf.get_bool("bool") == true);
  CHECK(*gguf.get_string("string") == "h\xC3\xA9");
  CHECK(!gguf.get_int("u64").ok());
  CHECK(*gguf.get_int("i64") == std::numeric_limits<int64_t>::min());
  CHECK(*gguf.get_double("f64") == 2.5);
  CHECK(*gguf.get_double("u8") == 200.0);
  CHECK(gguf.get_strings("strings")->size() == 3);
  CHECK((*gguf.get_strings("strings"))[2] == "bc");
  CHECK(*gguf.get_floats("floats") == std::vector<float>{0.5F, -1.0F});
  CHECK(*gguf.get_ints("ints") == std::vector<int32_t>{1, -2, 3});
  REQUIRE(gguf.find("nested")->arrays.size() == 3);
  CHECK(gguf.find("nested")->arrays[0].as_int(1) == 2);
  CHECK(gguf.find("nested")->arrays[1].as_int(0) == std::nullopt);
}

TEST_CASE("a GGUF key of another type is an error that names it and an absent one is none") {
  GgufWriter writer;
  writer.add_string("text", "x");
  writer.add_f32("real", 1.5F);
  const std::string bytes = writer.bytes();
  const auto gguf = *GgufFile::parse(as_bytes(bytes));
  CHECK(error_field(gguf->get_int("text").status()) == "text");
  CHECK(error_field(gguf->get_int("real").status()) == "real");
  CHECK(error_field(gguf->get_bool("real").status()) == "real");
  CHECK(error_field(gguf->get_string("real").status()) == "real");
  CHECK(error_field(gguf->get_strings("text").status()) == "text");
  CHECK(error_field(gguf->get_floats("text").status()) == "text");
  CHECK(error_field(gguf->get_ints("text").status()) == "text");
  CHECK(*gguf->get_int("absent") == std::nullopt);
  CHECK(gguf->get_strings("absent")->empty());
}

TEST_CASE("GGUF tensors of every supported type are found where they were put") {
  struct Type {
    uint32_t number;
    DType dtype;
  };
  const std::vector<Type> types = {
      {0, DType::kF32},   {1, DType::kF16},   {2, DType::kQ4_0},  {3, DType::kQ4_1},
      {6, DType::kQ5_0},  {7, DType::kQ5_1},  {8, DType::kQ8_0},  {12, DType::kQ4_K},
      {13, DType::kQ5_K}, {14, DType::kQ6_K}, {30, DType::kBF16},
  };
  GgufWriter writer;
  for (const Type& type : types) {
    const auto size = static_cast<size_t>(dtype_bytes(type.dtype, 3 * 256));
    writer.add_tensor(fmt::format("t{}", type.number), type.number, {3, 256},
                      std::string(size, static_cast<char>(type.number)));
  }
  TempDir dir;
  const std::string path = (dir.path() / "x.gguf").string();
  write_file(path, writer.bytes());
  auto file = GgufFile::open(path);
  REQUIRE(file.ok());
  for (const Type& type : types) {
    const GgufTensor* tensor = (*file)->find_tensor(fmt::format("t{}", type.number));
    REQUIRE(tensor != nullptr);
    CHECK(tensor->dtype == type.dtype);
    CHECK(tensor->shape == std::vector<int64_t>{3, 256});
    CHECK(tensor->data.size() == static_cast<size_t>(dtype_bytes(type.dtype, 768)));
    CHECK(std::to_integer<uint32_t>(tensor->data.back()) == type.number);
  }
}

TEST_CASE("an unsupported GGUF tensor type is refused by name") {
  GgufWriter writer;
  writer.add_tensor("blk.0.x", 10, {1, 256}, std::string(84, 'x'));
  const Status status = parse(writer.bytes());
  check_error(status, absl::StatusCode::kUnimplemented, "tensor blk.0.x: type Q2_K");
  CHECK(error_field(status) == "blk.0.x");
  GgufWriter unknown;
  unknown.add_tensor("y", 999, {1, 256}, std::string(84, 'x'));
  check_invalid(parse(unknown.bytes()), "tensor y: unknown type 999");
  GgufWriter removed;
  removed.add_tensor("z", 4, {1, 256}, std::string(84, 'x'));
  check_invalid(parse(removed.bytes()), "tensor z: unknown type 4");
}

TEST_CASE("a GGUF header that lies is refused before anything is allocated for it") {
  const std::string good = GgufWriter().bytes();
  REQUIRE(parse(good).ok());
  check_invalid(parse(""), "not a GGUF");
  check_invalid(parse("GGML" + good.substr(4)), "not a GGUF");
  const auto with = [&](size_t at, uint64_t value, size_t width) {
    std::string bytes = good;
    std::memcpy(bytes.data() + at, &value, width);
    return parse(bytes);
  };
  check_error(with(4, 1, 4), absl::StatusCode::kUnimplemented, "version 1");
  check_error(with(4, 4, 4), absl::StatusCode::kUnimplemented, "version 4");
  check_error(with(4, 0x03000000, 4), absl::StatusCode::kUnimplemented, "big-endian");
  check_invalid(with(8, 1, 8), "do not fit");
  check_invalid(with(16, 1, 8), "do not fit");
  for (const size_t at : {size_t{8}, size_t{16}}) {
    check_error(with(at, std::numeric_limits<uint64_t>::max(), 8),
                absl::StatusCode::kResourceExhausted, "at most");
  }
  for (size_t size = 0; size < 24; ++size) CHECK(!parse(good.substr(0, size)).ok());
}

TEST_CASE("each malformed GGUF value is a typed error that names its key") {
  constexpr uint32_t kString = 8;
  constexpr uint32_t kArray = 9;
  const auto array = [](uint32_t type, uint64_t count) {
    return number_bytes(type, 4) + number_bytes(count, 8);
  };
  CHECK(error_field(parse_value(13, "")) == "bad.key");
  check_invalid(parse_value(13, "x"), "unknown value type 13");
  check_invalid(parse_value(7, "\2"), "bool");
  check_invalid(parse_value(10, "1234567"), "cut off");
  check_invalid(parse_value(kString, number_bytes(100, 8) + "x"), "cut off");
  check_invalid(parse_value(kString, number_bytes(UINT64_MAX, 8) + "x"), "cut off");
  check_invalid(parse_value(kString, number_bytes(2, 8) + "\xC3\x28"), "UTF-8");
  check_invalid(parse_value(kArray, array(13, 1)), "unknown element type");
  check_invalid(parse_value(kArray, array(0, 100) + "x"), "cut off");
  check_invalid(parse_value(kArray, array(0, UINT64_MAX)), "at most");
  check_invalid(parse_value(kArray, array(kString, 1 << 20) + "x"), "cut off");
  check_invalid(parse_value(kArray, array(kString, 1) + number_bytes(1, 8)), "string is cut off");
  check_invalid(parse_value(kArray, array(kArray, 1 << 20)), "cut off");
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += array(kArray, 1);
  check_invalid(parse_value(kArray, deep), "nested too deep");
}

TEST_CASE("duplicate and malformed names of GGUF are refused") {
  GgufWriter keys;
  keys.add_u32("same", 1);
  keys.add_u32("same", 2);
  check_invalid(parse(keys.bytes()), "same: it comes twice");
  GgufWriter empty;
  empty.add_u32("", 1);
  check_invalid(parse(empty.bytes()), "metadata key 0 is empty");
  GgufWriter long_key;
  long_key.add_u32(std::string(5000, 'k'), 1);
  check_invalid(parse(long_key.bytes()), "too long");
  GgufWriter bad_utf8;
  bad_utf8.add_u32("\xFF", 1);
  check_invalid(parse(bad_utf8.bytes()), "UTF-8");
  GgufWriter tensors;
  tensors.add_tensor("t", 0, {6}, bytes_of(kSix));
  tensors.add_tensor("t", 0, {6}, bytes_of(kSix));
  check_invalid(parse(tensors.bytes()), "tensor t: it comes twice");
  GgufWriter name;
  name.add_tensor("\xC0\x80", 0, {6}, bytes_of(kSix));
  check_invalid(parse(name.bytes()), "UTF-8");
}

TEST_CASE("each malformed GGUF tensor entry is a typed error that names it") {
  const auto entry = [](uint32_t type, const std::vector<int64_t>& shape, uint64_t offset) {
    GgufWriter writer;
    writer.add_tensor("first", 0, {6}, bytes_of(kSix));
    writer.add_tensor("pad", 0, {16}, std::string(64, 'x'));
    writer.add_tensor_at("t", type, shape, offset);
    return parse(writer.bytes());
  };
  check_invalid(entry(0, {}, 0), "dimensions");
  check_invalid(entry(0, {1, 1, 1, 1, 1}, 0), "dimensions");
  check_invalid(entry(0, {0, 4}, 0), "dimension 0");
  check_invalid(entry(0, {-1, 4}, 0), "too large");
  check_invalid(entry(0, {int64_t{1} << 32, int64_t{1} << 32}, 0), "too large");
  check_invalid(entry(2, {4, 31}, 0), "no whole blocks of 32");
  check_invalid(entry(12, {4, 32}, 0), "no whole blocks of 256");
  check_invalid(entry(0, {6}, 8), "not aligned to 32");
  check_invalid(entry(0, {6}, 96), "outside");
  check_invalid(entry(0, {6}, uint64_t{1} << 62), "outside");
  check_invalid(entry(0, {1 << 20}, 0), "outside");
  check_invalid(entry(0, {6}, 0), "overlap");
  check_invalid(entry(0, {6}, 64), "overlap");
  CHECK(error_field(entry(0, {6}, 8)) == "t");
}

TEST_CASE("GGUF's own alignment holds") {
  const auto with_alignment = [](uint32_t alignment) {
    GgufWriter writer;
    writer.add_u32("general.alignment", alignment);
    writer.add_tensor("t", 0, {6}, bytes_of(kSix));
    return parse(writer.bytes());
  };
  CHECK(with_alignment(8).ok());
  for (const uint32_t bad : {0U, 1U, 24U, 1U << 20}) {
    check_invalid(with_alignment(bad), "general.alignment");
  }
}

}  // namespace pelton
