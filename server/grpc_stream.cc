#include "server/grpc_stream.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <chrono>
#include <optional>
#include <utility>

#include "server/auth.h"
#include "server/grpc_methods.h"
#include "server/grpc_status.h"
#include "server/random_id.h"

namespace pelton {

RpcStream::RpcStream(GrpcLoop* loop, uint64_t key) : loop_(loop), key_(key) {}

void RpcStream::accept(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue) {
  context_.AsyncNotifyWhenDone(&done_tag_);
  ++in_flight_;
  service->RequestCall(&context_, &stream_, queue, queue, &accept_tag_);
}

void RpcStream::completed(Step step, bool ok) {
  --in_flight_;
  (this->*step)(ok);
  if (in_flight_ == 0) loop_->remove(key_);  // destroys this
}

void RpcStream::on_accept(bool ok) {
  if (!ok) return;  // the server shuts down; of such a call no done comes
  ++in_flight_;     // done
  loop_->accept_one();
  client_request_id_ = request_name(metadata("x-request-id").value_or(""));
  context_.AddInitialMetadata("x-request-id", client_request_id_);
  if (const Status status = admit(); !status.ok()) return finish(status);
  read();
}

std::optional<std::string_view> RpcStream::metadata(const char* name) const {
  const auto found = context_.client_metadata().find(name);
  if (found == context_.client_metadata().end()) return std::nullopt;
  return std::string_view(found->second.data(), found->second.size());
}

// Who calls, and what: sets the handler.
Status RpcStream::admit() {
  const std::string& method = context_.method();
  const GrpcServices& services = loop_->services();
  const RpcMethod* found = find_method(method);
  if (found == nullptr || !found->open_to_all) {
    PELTON_ASSIGN_OR_RETURN(tenant_, services.auth->tenant(metadata("authorization")));
  }
  if (found == nullptr) {
    Status unknown = absl::UnimplementedError("no such method");
    set_error_reason(unknown, "UNKNOWN_METHOD");
    return unknown;
  }
  if (!found->open_to_all && loop_->overloaded()) {
    return pelton::overloaded("too many calls are open", std::chrono::seconds(1));
  }
  may_half_close_ = found->many_messages;
  if (!found->many_messages) {
    const GrpcLimits& limits = loop_->limits();
    first_message_due_ = true;
    due_ = std::chrono::steady_clock::now() +
           (found->open_to_all ? limits.first_message_without_key : limits.first_message);
    if (found->open_to_all) loop_->add_waiting(key_);
  }
  handler_ = found->make(*this, services);
  return absl::OkStatus();
}

void RpcStream::end_if_overdue(TimePoint now) {
  if (now < due_) return;
  due_ = TimePoint::max();
  if (first_message_due_) {
    finish(absl::DeadlineExceededError("the call's message did not come in time"));
  } else {
    context_.TryCancel();  // its client reads nothing
  }
}

TimePoint RpcStream::deadline() const {
  const auto at = context_.deadline();
  if (at == std::chrono::system_clock::time_point::max()) return TimePoint::max();
  return std::chrono::steady_clock::now() + (at - std::chrono::system_clock::now());
}

void RpcStream::read() {
  if (over_) return;
  ++in_flight_;
  read_in_flight_ = true;
  stream_.Read(&incoming_, &read_tag_);
}

void RpcStream::on_read(bool ok) {
  read_in_flight_ = false;
  if (over_) return;
  if (std::exchange(first_message_due_, false)) {
    due_ = TimePoint::max();
    loop_->remove_waiting(key_);
  }
  if (!ok) {
    if (may_half_close_) return handler_->on_half_close();
    return finish(absl::InvalidArgumentError("the call ended before its message"));
  }
  may_half_close_ = true;
  handler_->on_message(std::exchange(incoming_, {}));
}

void RpcStream::write_begins() {
  ++in_flight_;
  first_message_due_ = false;
  due_ = std::chrono::steady_clock::now() + loop_->limits().write;
}

void RpcStream::write(const grpc::ByteBuffer& message) {
  if (over_) return;
  write_begins();
  write_in_flight_ = true;
  stream_.Write(message, &write_tag_);
}

void RpcStream::on_write(bool ok) {
  write_in_flight_ = false;
  if (over_) return;
  due_ = TimePoint::max();
  if (ok) handler_->on_written();  // not ok: done follows
}

void RpcStream::write_and_finish(const grpc::ByteBuffer& message, const Status& status) {
  if (over_) return;
  over_ = true;
  write_begins();
  stream_.WriteAndFinish(message, grpc::WriteOptions(), to_grpc(status), &finish_tag_);
}

void RpcStream::finish(const Status& status) {
  if (over_) return;
  over_ = true;
  write_begins();
  stream_.Finish(to_grpc(status), &finish_tag_);
}

void RpcStream::on_done(bool) {
  if (over_ || !context_.IsCancelled()) return;
  over_ = true;
  if (handler_ != nullptr) handler_->on_cancel();
}

grpc::ByteBuffer serialize(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  grpc_slice raw = grpc_slice_malloc(size);
  message.SerializeWithCachedSizesToArray(GRPC_SLICE_START_PTR(raw));
  const grpc::Slice slice(raw, grpc::Slice::STEAL_REF);
  return {&slice, 1};
}

Status parse(const grpc::ByteBuffer& bytes, google::protobuf::MessageLite* message) {
  grpc::ByteBuffer copy = bytes;  // a reader takes a mutable one; the slices are shared
  grpc::ProtoBufferReader reader(&copy);
  if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  return absl::InvalidArgumentError("the bytes are not a " + message->GetTypeName());
}

}  // namespace pelton
