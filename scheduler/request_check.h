// The engine's own bounds on a request, whatever a front end has checked before: what passes here
// can not make a step fail. Pure functions, any thread.
#pragma once

#include "core/request.h"
#include "core/status.h"

namespace pelton {

// INVALID_ARGUMENT naming the field.
Status check_request(const Request& request, int vocab_size);

}  // namespace pelton
