# Boost 1.81 or newer: the one that tools/setup unpacked under build/boost where an older Boost is
# installed, else the system's. pelton_boost: headers (Asio, Beast, JSON, all header-only here);
# pelton_boost_context: the fibers of the CUDA emulator.
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

find_library(PELTON_BOOST_CONTEXT_LIBRARY libboost_context.a
  PATHS ${PROJECT_SOURCE_DIR}/build/boost/usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} NO_DEFAULT_PATH)
find_library(PELTON_BOOST_CONTEXT_LIBRARY libboost_context.a)
if(PELTON_BOOST_CONTEXT_LIBRARY)
  add_library(pelton_boost_context INTERFACE)
  target_include_directories(pelton_boost_context SYSTEM INTERFACE ${PELTON_BOOST_INCLUDE_DIR})
  target_link_libraries(pelton_boost_context INTERFACE ${PELTON_BOOST_CONTEXT_LIBRARY})
endif()
