// Each host thread that runs blocks has its part of the shared address range. Thread-safe.
#pragma once

namespace pelton::cuda::emulator {

char* map_shared_part();
void unmap_shared_part(char* base);

}  // namespace pelton::cuda::emulator
