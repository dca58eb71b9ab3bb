// Server reflection over gRPC, v1 and v1alpha (the same messages), out of the linked descriptors.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <string>
#include <vector>

#include "grpc/reflection/v1/reflection.pb.h"
#include "server/grpc_unary.h"

namespace pelton {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

const DescriptorPool& pool() {
  return *DescriptorPool::generated_pool();
}

void not_found(ServerReflectionResponse* response) {
  response->mutable_error_response()->set_error_code(static_cast<int>(absl::StatusCode::kNotFound));
  response->mutable_error_response()->set_error_message("not found");
}

// A file after everything that it imports.
void add_file(const FileDescriptor* file, std::set<const FileDescriptor*>& seen,
              ServerReflectionResponse* response) {
  if (!seen.insert(file).second) return;
  for (int i = 0; i < file->dependency_count(); ++i) add_file(file->dependency(i), seen, response);
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  response->mutable_file_descriptor_response()->add_file_descriptor_proto(
      proto.SerializeAsString());
}

void answer_file(const FileDescriptor* file, ServerReflectionResponse* response) {
  if (file == nullptr) return not_found(response);
  // The file asked for comes first, as some clients expect.
  std::set<const FileDescriptor*> seen;
  add_file(file, seen, response);
  auto* files = response->mutable_file_descriptor_response()->mutable_file_descriptor_proto();
  files->SwapElements(0, files->size() - 1);
}

void answer_extension_numbers(const std::string& type, ServerReflectionResponse* response) {
  const auto* message = pool().FindMessageTypeByName(type);
  if (message == nullptr) return not_found(response);
  auto* numbers = response->mutable_all_extension_numbers_response();
  numbers->set_base_type_name(type);
  std::vector<const FieldDescriptor*> extensions;
  pool().FindAllExtensions(message, &extensions);
  for (const FieldDescriptor* field : extensions) numbers->add_extension_number(field->number());
}

ServerReflectionResponse answer(const ServerReflectionRequest& request) {
  ServerReflectionResponse response;
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case ServerReflectionRequest::kFileByFilename:
      answer_file(pool().FindFileByName(request.file_by_filename()), &response);
      break;
    case ServerReflectionRequest::kFileContainingSymbol:
      answer_file(pool().FindFileContainingSymbol(request.file_containing_symbol()), &response);
      break;
    case ServerReflectionRequest::kFileContainingExtension: {
      const auto& asked = request.file_containing_extension();
      const auto* type = pool().FindMessageTypeByName(asked.containing_type());
      const auto* field =
          type == nullptr ? nullptr : pool().FindExtensionByNumber(type, asked.extension_number());
      answer_file(field == nullptr ? nullptr : field->file(), &response);
      break;
    }
    case ServerReflectionRequest::kAllExtensionNumbersOfType:
      answer_extension_numbers(request.all_extension_numbers_of_type(), &response);
      break;
    case ServerReflectionRequest::kListServices:
      for (const std::string_view name : grpc_service_names()) {
        response.mutable_list_services_response()->add_service()->set_name(std::string(name));
      }
      break;
    case ServerReflectionRequest::MESSAGE_REQUEST_NOT_SET:
      response.mutable_error_response()->set_error_code(
          static_cast<int>(absl::StatusCode::kInvalidArgument));
      response.mutable_error_response()->set_error_message("no question was asked");
      break;
  }
  return response;
}

// A question, its answer, the next question.
class ReflectionHandler final : public RpcHandler {
 public:
  ReflectionHandler(RpcStream& stream, const GrpcServices&) : stream_(stream) {}

  void on_message(grpc::ByteBuffer message) override {
    ServerReflectionRequest request;
    if (const Status status = parse(message, &request); !status.ok()) return stream_.finish(status);
    stream_.write(serialize(answer(request)));
  }
  void on_written() override { stream_.read(); }
  void on_half_close() override { stream_.finish(absl::OkStatus()); }

 private:
  RpcStream& stream_;
};

}  // namespace

std::span<const RpcMethod> reflection_methods() {
  static constexpr RpcMethod kMethods[] = {
      {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false,
       &make_handler<ReflectionHandler>, true},
      {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", false,
       &make_handler<ReflectionHandler>, true},
  };
  return kMethods;
}

}  // namespace pelton
