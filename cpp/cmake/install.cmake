# Installs the libraries and headers with a CMake package and a pkg-config file. Both find their files from where they lie: the installed tree can be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(libraries doh doh_write)
if(DOH_SHARED_LIBRARY)
  list(APPEND libraries doh_shared)
endif()
install(TARGETS ${libraries} EXPORT doh-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
                                                RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES cpp/include/doh.h cpp/include/doh_write.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(DOH_TOOLS)
  install(TARGETS doh-decode RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

find_package(Threads)  # found in cpp/ already, whose variables are not seen here
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/doh)
install(EXPORT doh-targets NAMESPACE doh:: FILE doh-targets.cmake DESTINATION ${package})
configure_package_config_file(cpp/cmake/doh-config.cmake.in doh-config.cmake INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO
                              NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/doh-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/doh-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/doh-config-version.cmake DESTINATION ${package})

set(DOH_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
if(NOT IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" DOH_PC_PREFIX "\${pcfiledir}/${up}")
endif()
foreach(kind LIB INCLUDE)
  set(DOH_PC_${kind}DIR ${CMAKE_INSTALL_${kind}DIR})
  if(NOT IS_ABSOLUTE ${CMAKE_INSTALL_${kind}DIR})
    set(DOH_PC_${kind}DIR "\${prefix}/${CMAKE_INSTALL_${kind}DIR}")
  endif()
endforeach()
set(DOH_PC_THREADS " -pthread")
if(DOH_SHARED_LIBRARY)  # which brings its own
  set(DOH_PC_THREADS "")
endif()
configure_file(cpp/cmake/doh.pc.in doh.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/doh.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
