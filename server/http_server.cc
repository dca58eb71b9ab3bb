#include "server/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>

#include "server/http_io_thread.h"

namespace pelton {
namespace asio = boost::asio;
using asio::ip::tcp;
using Error = boost::system::error_code;

namespace {

Status listen_error(const std::string& host, uint16_t port, const Error& error) {
  const std::string where = fmt::format("HTTP address {}:{}", host, port);
  if (error == asio::error::address_in_use) {
    return absl::AlreadyExistsError(where + " is already in use");
  }
  if (error == asio::error::access_denied) {
    return absl::PermissionDeniedError(where + " may not be listened on");
  }
  return absl::InvalidArgumentError(where + ": " + error.message());
}

StatusOr<tcp::endpoint> resolve(const HttpOptions& options) {
  Error error;
  const auto address = asio::ip::make_address(options.host, error);
  if (!error) return tcp::endpoint(address, options.port);
  asio::io_context context;
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), error);
  if (error || found.empty()) return listen_error(options.host, options.port, error);
  return found.begin()->endpoint();
}

StatusOr<tcp::acceptor> open_listener(const HttpOptions& options, asio::io_context& context) {
  PELTON_ASSIGN_OR_RETURN(const tcp::endpoint endpoint, resolve(options));
  tcp::acceptor acceptor(context);
  Error error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return listen_error(options.host, options.port, error);
  return acceptor;
}

}  // namespace

StatusOr<std::unique_ptr<HttpServer>> HttpServer::start(HttpOptions options, HttpDeps deps) {
  std::unique_ptr<HttpServer> server(new HttpServer());
  server->shared_ = std::make_unique<HttpShared>();
  HttpShared& shared = *server->shared_;
  shared.options = std::move(options);
  shared.deps = std::move(deps);
  shared.front = std::make_unique<HttpIoThread>(shared, true);
  for (int i = 0; i < std::max(1, shared.options.threads); ++i) {
    shared.workers.push_back(std::make_unique<HttpIoThread>(shared, false));
  }
  PELTON_ASSIGN_OR_RETURN(tcp::acceptor acceptor,
                          open_listener(shared.options, shared.front->context()));
  server->port_ = acceptor.local_endpoint().port();
  shared.front->listen(std::move(acceptor));
  for (auto& worker : shared.workers) worker->start();
  shared.front->start();
  return server;
}

HttpServer::~HttpServer() {
  stop();
}

void HttpServer::drain() {
  shared_->draining = true;
}

void HttpServer::stop() {
  shared_->front->stop();  // first: it hands connections to the others
  for (auto& worker : shared_->workers) worker->stop();
}

int HttpServer::connections() const {
  return shared_->connections;
}

int HttpServer::calls_in_flight() const {
  int total = shared_->front->in_flight();
  for (const auto& worker : shared_->workers) total += worker->in_flight();
  return total;
}

}  // namespace pelton
