# The few helpers that every room's CMakeLists.txt uses.

# pelton_library(NAME SOURCES a.cc ... DEPS lib ...): a static library of one room.
function(pelton_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC pelton_build_flags ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
  endif()
endfunction()

# pelton_test(NAME SOURCES a_test.cc ... DEPS lib ... [LABELS fast|long]): one Catch2 program a room;
# CTest lists each TEST_CASE by itself. Tests tagged [long] run only in `make test-long`.
function(pelton_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE pelton_build_flags pelton_test_main ${ARG_DEPS})
  catch_discover_tests(${name} TEST_PREFIX "${name}: " TEST_SPEC "~[long]"
    PROPERTIES LABELS "fast;${ARG_LABELS}" TIMEOUT 600 SKIP_RETURN_CODE 77)
endfunction()
