// One RPC on its loop's thread, as a small state machine over raw messages: accept, authenticate,
// read, write one message at a time, finish. What the RPC does is its RpcHandler's. The loop owns
// the stream and destroys it when its last completion has come.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/status.h"
#include "google/protobuf/message_lite.h"
#include "server/grpc_loop.h"

namespace pelton {

// All calls come on the loop's thread. After on_cancel, or once it has finished its stream, a
// handler is called no more.
class RpcHandler {
 public:
  virtual ~RpcHandler() = default;
  virtual void on_message(grpc::ByteBuffer message) = 0;
  // The client sends no more. Before a first message only where the method needs none.
  virtual void on_half_close() {}
  virtual void on_written() {}  // the write in flight is done
  virtual void on_cancel() {}   // the client left, or its deadline passed
};

class RpcStream {
 public:
  RpcStream(GrpcLoop* loop, uint64_t key);
  void accept(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue);

  // For the loop, now and then: ends the stream where a message or a write takes too long.
  void end_if_overdue(TimePoint now);

  // --- for handlers
  GrpcLoop& loop() { return *loop_; }
  uint64_t key() const { return key_; }
  const std::string& tenant() const { return tenant_; }  // of the authenticated key
  // The client's x-request-id where it is clean, else ours; the answer's metadata has it too.
  const std::string& client_request_id() const { return client_request_id_; }
  TimePoint deadline() const;  // steady time
  void read();                 // asks for one more message; not while a read is in flight
  bool read_in_flight() const { return read_in_flight_; }
  bool write_in_flight() const { return write_in_flight_; }
  void write(const grpc::ByteBuffer& message);  // not while a write is in flight
  void write_and_finish(const grpc::ByteBuffer& message, const Status& status);
  void finish(const Status& status);

 private:
  using Step = void (RpcStream::*)(bool ok);
  struct Tag final : CompletionTag {
    Tag(RpcStream* owner, Step next) : stream(owner), step(next) {}
    void complete(bool ok) override { stream->completed(step, ok); }
    RpcStream* stream;
    Step step;
  };

  void completed(Step step, bool ok);
  void on_accept(bool ok);
  void on_read(bool ok);
  void on_write(bool ok);
  void on_finish(bool) { due_ = TimePoint::max(); }
  void on_done(bool ok);
  std::optional<std::string_view> metadata(const char* name) const;  // of the client
  Status admit();
  void write_begins();

  GrpcLoop* const loop_;
  const uint64_t key_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  grpc::ByteBuffer incoming_;
  std::string tenant_;
  std::string client_request_id_;
  Tag accept_tag_{this, &RpcStream::on_accept};
  Tag read_tag_{this, &RpcStream::on_read};
  Tag write_tag_{this, &RpcStream::on_write};
  Tag finish_tag_{this, &RpcStream::on_finish};
  Tag done_tag_{this, &RpcStream::on_done};
  TimePoint due_ = TimePoint::max();  // of the first message, then of the write in flight
  bool first_message_due_ = false;
  int in_flight_ = 0;  // completions still to come
  bool write_in_flight_ = false;
  bool read_in_flight_ = false;
  bool may_half_close_ = false;          // a first message came, or the method needs none
  bool over_ = false;                    // finished or cancelled: nothing more is begun
  std::unique_ptr<RpcHandler> handler_;  // last: it refers to the rest
};

// Messages as one contiguous slice each.
grpc::ByteBuffer serialize(const google::protobuf::MessageLite& message);
// INVALID_ARGUMENT where the bytes are no such message.
Status parse(const grpc::ByteBuffer& bytes, google::protobuf::MessageLite* message);

}  // namespace pelton
