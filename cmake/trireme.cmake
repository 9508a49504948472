# How a library, a program and a test are made: one place for flags, include path and labels.

add_library(trm_flags INTERFACE)
target_include_directories(trm_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(trm_flags INTERFACE _GNU_SOURCE)
target_compile_options(trm_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-ffp-contract=off -fvisibility=hidden -fno-math-errno
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wundef
    -Wformat=2 -Wno-psabi>)
# Device code contracts to fused multiply-adds only where it says so, as the C code.
target_compile_options(trm_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false -Xcompiler=-Wall,-Wextra,-fvisibility=hidden>)
# C++ is what kernels are for the emulated GPU of tests/fake/gpu.
target_compile_options(trm_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off -fvisibility=hidden -fno-exceptions -fno-rtti
    -Wall -Wextra -Wshadow -Wpointer-arith -Wundef -Wno-unknown-pragmas -Wno-psabi>)
if(TRIREME_WERROR)
    target_compile_options(trm_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>
        $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Werror>)
endif()
if(TRIREME_SANITIZE)
    target_compile_definitions(trm_flags INTERFACE TRM_SANITIZED=1)
    target_compile_options(trm_flags INTERFACE
        $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${TRIREME_SANITIZE} -fno-omit-frame-pointer
        -fno-sanitize-recover=all>)
    target_link_options(trm_flags INTERFACE -fsanitize=${TRIREME_SANITIZE})
endif()

# trm_library(NAME SOURCES a.c LINK public [PRIVATE_LINK private])
function(trm_library name)
    cmake_parse_arguments(A "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
    add_library(trm_${name} STATIC ${A_SOURCES})
    target_link_libraries(trm_${name} PUBLIC trm_flags ${A_LINK} PRIVATE ${A_PRIVATE_LINK})
    set_target_properties(trm_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# trm_program(NAME SOURCES main.c LINK libraries): installed into bin/
function(trm_program name)
    cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
    add_executable(${name} ${A_SOURCES})
    target_link_libraries(${name} PRIVATE trm_flags ${A_LINK})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
    install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()

# trm_test(NAME SOURCES t.c LINK libraries [LABEL unit] [RANKS 1 2 4] [TIMEOUT 60] [ENV A=b])
# With RANKS, one CTest for each number of ranks, started by mpirun. LABEL may be a list in quotes:
# "unit;threads" is also run under ThreadSanitizer.
function(trm_test name)
    cmake_parse_arguments(PARSE_ARGV 1 A "" "LABEL;TIMEOUT" "SOURCES;LINK;RANKS;ENV")
    if(NOT A_LABEL)
        set(A_LABEL unit)
    endif()
    if(NOT A_TIMEOUT)
        set(A_TIMEOUT 60)
    endif()
    if(TRIREME_SANITIZE) # several times slower, in time and in memory
        math(EXPR A_TIMEOUT "${A_TIMEOUT} * 3")
    endif()
    add_executable(${name} ${A_SOURCES})
    target_link_libraries(${name} PRIVATE trm_flags ${A_LINK} PkgConfig::CMOCKA)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
    if(A_RANKS)
        foreach(ranks ${A_RANKS})
            add_test(NAME ${name}_np${ranks} COMMAND ${TRIREME_MPIRUN} -np ${ranks} $<TARGET_FILE:${name}>)
            trm_test_properties(${name}_np${ranks} "${A_LABEL}" "${A_TIMEOUT}" "${A_ENV}")
            if(ranks GREATER 1) # ranks that wait for each other need the machine to themselves
                set_tests_properties(${name}_np${ranks} PROPERTIES PROCESSORS 2)
            endif()
        endforeach()
    else()
        add_test(NAME ${name} COMMAND ${name})
        trm_test_properties(${name} "${A_LABEL}" "${A_TIMEOUT}" "${A_ENV}")
    endif()
endfunction()

# trm_gpu_program(NAME SOURCES t.c LINK libraries): a test or benchmark that asks for a GPU, and is
# started by tests/gpu/run.sh; target gpu_programs builds all of them.
function(trm_gpu_program name)
    cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
    add_executable(${name} ${A_SOURCES})
    target_link_libraries(${name} PRIVATE trm_flags ${A_LINK})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/gpu)
    if(NOT TARGET gpu_programs)
        add_custom_target(gpu_programs)
    endif()
    add_dependencies(gpu_programs ${name})
endfunction()

# Label, time-out and environment of a CTest; scripts use it too.
function(trm_test_properties name label timeout env)
    set(environment TRIREME_BIN=${PROJECT_BINARY_DIR}/bin TRIREME_SOURCE=${PROJECT_SOURCE_DIR}
        OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
        OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_mpi_yield_when_idle=1
        CUDA_VISIBLE_DEVICES=) # a GPU that is there changes no test
    if(TRIREME_SANITIZE)
        # Leaks of Open MPI's plugins, unloaded by then, are told by whole stacks only.
        list(APPEND environment ASAN_OPTIONS=fast_unwind_on_malloc=0
            LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/lint/lsan.supp:print_suppressions=0)
    endif()
    set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT ${timeout}
        ENVIRONMENT "${environment};${env}")
endfunction()
