// Where what can be made again is kept between runs. A pure function of the environment given to
// it; nothing is created.
#pragma once

#include <string>

namespace pelton {

// `xdg`/pelton, else `home`/.cache/pelton: XDG_CACHE_HOME and HOME, null where unset. Paths that
// are not absolute are passed over (XDG Base Directory Specification). Empty: there is no such
// place.
std::string cache_folder(const char* xdg, const char* home);

}  // namespace pelton
