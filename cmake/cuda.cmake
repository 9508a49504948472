# CUDA and NCCL, where they are installed: a build without them is whole, for CPUs.
#
# Sets TRIREME_HAVE_CUDA and, when true, enables the CUDA language and offers the targets
# CUDA::cudart (and what else find_package(CUDAToolkit) finds) and trm_nccl_library.

set(TRIREME_CUDA AUTO CACHE STRING "Build for NVIDIA GPUs: AUTO (where CUDA and NCCL are), ON or OFF")
set_property(CACHE TRIREME_CUDA PROPERTY STRINGS AUTO ON OFF)
# A100, H100/H200, GB200, GB300, and PTX for what comes after them.
set(TRIREME_CUDA_ARCHITECTURES "80-real;90a-real;100-real;103-real;100-virtual"
    CACHE STRING "Architectures that device code is compiled for")

# Says why not, in trm_cuda_missing, or leaves it empty.
macro(trm_find_cuda)
    include(CheckLanguage)
    set(trm_cuda_missing "")
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER)
        set(trm_cuda_missing "no CUDA compiler: put nvcc on the PATH, or set CMAKE_CUDA_COMPILER")
    else()
        find_package(CUDAToolkit 12.9 QUIET)
        find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
        find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
        if(NOT CUDAToolkit_FOUND)
            set(trm_cuda_missing "no CUDA Toolkit 12.9 or newer (sm_103 needs it)")
        elseif(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
            set(trm_cuda_missing "no NCCL: set NCCL_INCLUDE_DIR and NCCL_LIBRARY")
        endif()
    endif()
endmacro()

set(TRIREME_HAVE_CUDA FALSE)
if(TRIREME_CUDA STREQUAL "AUTO" OR TRIREME_CUDA)
    trm_find_cuda()
    if(NOT trm_cuda_missing)
        set(TRIREME_HAVE_CUDA TRUE)
    elseif(NOT TRIREME_CUDA STREQUAL "AUTO")
        message(FATAL_ERROR "TRIREME_CUDA=${TRIREME_CUDA}, but there is ${trm_cuda_missing}")
    else()
        message(STATUS "Building for CPUs only: ${trm_cuda_missing}")
    endif()
endif()

if(TRIREME_HAVE_CUDA)
    set(CMAKE_CUDA_ARCHITECTURES ${TRIREME_CUDA_ARCHITECTURES})
    set(CMAKE_CUDA_STANDARD 17)
    enable_language(CUDA)
    set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
    set(CMAKE_CUDA_FLAGS_DEBUG "-O1 -g")
    # Programs name the runtime they want (CUDA::cudart, or the one of tests/fake).
    set(CMAKE_CUDA_RUNTIME_LIBRARY None)
    add_library(trm_nccl_library INTERFACE)
    target_include_directories(trm_nccl_library SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
    target_link_libraries(trm_nccl_library INTERFACE ${NCCL_LIBRARY} CUDA::cudart)
    # The same headers, without the libraries.
    add_library(trm_nccl_headers INTERFACE)
    target_include_directories(trm_nccl_headers SYSTEM INTERFACE ${NCCL_INCLUDE_DIR}
        ${CUDAToolkit_INCLUDE_DIRS})
    message(STATUS "Building for GPUs: CUDA ${CUDAToolkit_VERSION}, ${TRIREME_CUDA_ARCHITECTURES}")
endif()
