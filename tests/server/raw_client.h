// A socket that sends exactly the bytes it is told to, for tests of the HTTP gateway. Blocking; a
// read that waits longer than the guard gives up, so that a test fails instead of hanging.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

namespace pelton {

struct RawResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
  bool complete = false;
};

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    const int one = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  }
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  int descriptor() const { return fd_; }
  bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // A reset instead of an orderly end.
  void abort() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close();
  }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // Reads until `needle` is in what was read and not yet taken; gives all up to its end.
  std::optional<std::string> read_until(std::string_view needle) {
    for (;;) {
      const size_t at = buffer_.find(needle);
      if (at != std::string::npos) {
        std::string out = buffer_.substr(0, at + needle.size());
        buffer_.erase(0, at + needle.size());
        return out;
      }
      if (!read_more()) return std::nullopt;
    }
  }

  RawResponse read_response(bool head_only = false) {
    RawResponse response;
    const auto head = read_until("\r\n\r\n");
    if (!head) return response;
    parse_head(*head, &response);
    if (head_only || response.status == 204 || response.status == 100) {
      response.complete = true;
    } else if (response.headers.count("transfer-encoding") > 0) {
      read_chunks(&response);
    } else if (response.headers.count("content-length") > 0) {
      const size_t length = std::stoul(response.headers["content-length"]);
      while (buffer_.size() < length && read_more()) {
      }
      response.complete = buffer_.size() >= length;
      response.body = buffer_.substr(0, length);
      buffer_.erase(0, length);
    } else {
      while (read_more()) {
      }
      response.complete = true;
      response.body = std::move(buffer_);
    }
    return response;
  }

  // True where the server has closed, and nothing is left to read.
  bool at_end() {
    while (buffer_.empty() && read_more()) {
    }
    return buffer_.empty() && ended_;
  }
  bool timed_out() const { return timed_out_; }

 private:
  bool read_more() {
    pollfd poller{fd_, POLLIN, 0};
    if (::poll(&poller, 1, 20000) <= 0) {
      timed_out_ = true;
      return false;
    }
    char bytes[16384];
    const ssize_t got = ::recv(fd_, bytes, sizeof(bytes), 0);
    if (got <= 0) {
      ended_ = true;
      return false;
    }
    buffer_.append(bytes, static_cast<size_t>(got));
    return true;
  }

  static void parse_head(const std::string& head, RawResponse* response) {
    if (head.size() > 12) response->status = std::atoi(head.c_str() + 9);
    size_t at = head.find("\r\n") + 2;
    while (at < head.size()) {
      const size_t end = head.find("\r\n", at);
      const std::string line = head.substr(at, end - at);
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) {
        std::string name = line.substr(0, colon);
        for (char& c : name) c = static_cast<char>(std::tolower(c));
        response->headers[name] = line.substr(colon + 2);
      }
      at = end + 2;
    }
  }

  void read_chunks(RawResponse* response) {
    for (;;) {
      const auto line = read_until("\r\n");
      if (!line) return;
      const size_t size = std::stoul(*line, nullptr, 16);
      while (buffer_.size() < size + 2 && read_more()) {
      }
      if (buffer_.size() < size + 2) return;
      response->body += buffer_.substr(0, size);
      buffer_.erase(0, size + 2);
      if (size == 0) {
        response->complete = true;
        return;
      }
    }
  }

  int fd_ = -1;
  bool connected_ = false;
  bool ended_ = false;
  bool timed_out_ = false;
  std::string buffer_;
};

// A whole request with the headers that every client sends.
inline std::string http_request(std::string_view method, std::string_view target,
                                std::string_view body = "", std::string_view headers = "") {
  std::string out(method);
  out += ' ';
  out += target;
  out += " HTTP/1.1\r\nHost: localhost\r\n";
  out += headers;
  if (!body.empty() || method == "POST") {
    out +=
        "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  }
  out += "\r\n";
  out += body;
  return out;
}

// Waits for what another thread brings about; false after a guard that no test should reach.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 20000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

}  // namespace pelton
