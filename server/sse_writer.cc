#include "server/sse_writer.h"

namespace pelton {
namespace {

// A chunk's size is written with leading zeros (RFC 9112 7.1: 1*HEXDIG), so that its length is
// known before the data is.
constexpr size_t kSizeDigits = 6;
constexpr char kHex[] = "0123456789abcdef";
constexpr size_t kMaxChunk = (size_t{1} << (4 * kSizeDigits)) - 1;

}  // namespace

void SseWriter::open_chunk(std::string& out) {
  chunk_at_ = out.size();
  if (chunked_) out += "000000\r\n";
}

void SseWriter::close_chunk(std::string& out) {
  if (!chunked_) return;
  const size_t data_at = chunk_at_ + kSizeDigits + 2;
  size_t size = out.size() - data_at;
  if (size > kMaxChunk) {  // a huge merged event: more digits, which costs one move
    std::string digits;
    for (size_t rest = size >> (4 * kSizeDigits); rest > 0; rest >>= 4) {
      digits.insert(digits.begin(), kHex[rest & 15]);
    }
    out.insert(chunk_at_, digits);
    chunk_at_ += digits.size();
  }
  for (size_t i = kSizeDigits; i-- > 0; size >>= 4) out[chunk_at_ + i] = kHex[size & 15];
  out += "\r\n";
}

void SseWriter::begin(std::string& out) {
  open_chunk(out);
  out += "data: ";
}

void SseWriter::end(std::string& out) {
  out += "\n\n";
  close_chunk(out);
}

void SseWriter::comment(std::string& out, std::string_view text) {
  open_chunk(out);
  out += ": ";
  out += text;
  out += "\n\n";
  close_chunk(out);
}

void SseWriter::done(std::string& out) {
  open_chunk(out);
  out += "data: [DONE]\n\n";
  close_chunk(out);
  if (chunked_) out += "0\r\n\r\n";
}

}  // namespace pelton
