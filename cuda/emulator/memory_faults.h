// A kernel that touches memory which is not there becomes a fault of its launch, as on a card,
// instead of the end of the program. Active only inside kernels.
#pragma once

namespace pelton::cuda::emulator {

// Before this host thread runs blocks: puts the handler and a stack for it in place.
void catch_memory_faults_on_this_thread();

}  // namespace pelton::cuda::emulator
