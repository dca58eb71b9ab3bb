# Boost's headers (Asio, Beast, JSON, all header-only here), 1.81 or newer: the ones that tools/setup
# unpacked under build/boost where an older Boost is installed, else the system's.
find_path(PELTON_BOOST_INCLUDE_DIR boost/version.hpp
  PATHS ${PROJECT_SOURCE_DIR}/build/boost/usr/include NO_DEFAULT_PATH)
find_path(PELTON_BOOST_INCLUDE_DIR boost/version.hpp REQUIRED)
file(STRINGS ${PELTON_BOOST_INCLUDE_DIR}/boost/version.hpp boost_version
  REGEX "^#define BOOST_VERSION [0-9]+")
string(REGEX REPLACE "[^0-9]" "" boost_version "${boost_version}")
if(boost_version LESS 108100)
  message(FATAL_ERROR "Boost ${boost_version} is too old: 1.81 is needed (run tools/setup)")
endif()

add_library(pelton_boost INTERFACE)
target_include_directories(pelton_boost SYSTEM INTERFACE ${PELTON_BOOST_INCLUDE_DIR})
target_compile_definitions(pelton_boost INTERFACE BOOST_ASIO_NO_DEPRECATED)
target_link_libraries(pelton_boost INTERFACE Threads::Threads)
if(PELTON_SANITIZE MATCHES "thread")
  # TSan does not know fences; Asio's queues are guarded by mutexes besides.
  target_compile_definitions(pelton_boost INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()
