# CUDA's headers (for the emulated rooms) and, with PELTON_CUDA, its compiler. The root is the first of
# PELTON_CUDA_ROOT (CMake, then environment), what tools/fetch_cuda fetched, CUDA_HOME, /usr/local/cuda.
# Sets PELTON_CUDA_FOUND; targets pelton_cuda_headers and, with PELTON_CUDA, pelton_cuda_runtime.
option(PELTON_CUDA "compile the CUDA backend for real cards (needs nvcc from 12.8 on)" OFF)
set(PELTON_CUDA_ROOT "" CACHE PATH "CUDA toolkit; empty: looked for")
set(PELTON_CUDA_ARCHITECTURES "80-real;86-real;89-real;90-real;100-real;120-real;120-virtual" CACHE STRING
  "cards to compile for: machine code of each, PTX of the newest")

function(pelton_find_cuda_root out)
  set(cache $ENV{XDG_CACHE_HOME})
  if(NOT cache)
    set(cache $ENV{HOME}/.cache)
  endif()
  foreach(candidate "${PELTON_CUDA_ROOT}" "$ENV{PELTON_CUDA_ROOT}" "${cache}/pelton/cuda-13.0"
      "$ENV{CUDA_HOME}" /usr/local/cuda)
    if(candidate AND EXISTS "${candidate}/include/cuda.h")
      file(STRINGS "${candidate}/include/cuda.h" version REGEX "^#define CUDA_VERSION [0-9]+")
      string(REGEX REPLACE "[^0-9]" "" version "${version}")
      if(version GREATER_EQUAL 12080)
        set(${out} "${candidate}" PARENT_SCOPE)
        return()
      endif()
      message(WARNING "CUDA ${version} in ${candidate} is too old: 12.8 is needed")
    endif()
  endforeach()
  set(${out} "" PARENT_SCOPE)
endfunction()

pelton_find_cuda_root(pelton_cuda_root)
set(PELTON_CUDA_FOUND OFF)
if(pelton_cuda_root)
  set(PELTON_CUDA_FOUND ON)
  add_library(pelton_cuda_headers INTERFACE)
  target_include_directories(pelton_cuda_headers SYSTEM INTERFACE ${pelton_cuda_root}/include)
elseif(PELTON_CUDA)
  message(FATAL_ERROR "PELTON_CUDA is on and no CUDA toolkit is found (run tools/fetch_cuda)")
else()
  message(WARNING "SKIPPED: no CUDA headers: cuda/ and its tests under the emulator are NOT built "
    "(run tools/fetch_cuda, or set PELTON_CUDA_ROOT)")
endif()

if(PELTON_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${pelton_cuda_root}/bin/nvcc)
  endif()
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  set(CMAKE_CUDA_ARCHITECTURES ${PELTON_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  if(CCACHE_PROGRAM)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  endif()
  enable_language(CUDA)
  if(CMAKE_VERSION VERSION_LESS 3.26)
    # It does not know that nvcc speaks C++20.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
    set(CMAKE_CUDA20_COMPILE_FEATURES cuda_std_20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_library(PELTON_CUDART_STATIC cudart_static PATHS ${pelton_cuda_root}/lib64
    ${pelton_cuda_root}/lib NO_DEFAULT_PATH REQUIRED)
  add_library(pelton_cuda_runtime INTERFACE)
  target_link_libraries(pelton_cuda_runtime INTERFACE pelton_cuda_headers ${PELTON_CUDART_STATIC}
    Threads::Threads dl rt)
  target_compile_definitions(pelton_cuda_runtime INTERFACE PELTON_REAL_CARD)  # no emulator here
endif()
