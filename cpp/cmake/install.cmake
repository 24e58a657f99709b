# Installs the libraries and headers with a CMake package and pkg-config files.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS doh doh_write EXPORT doh-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES cpp/include/doh.h cpp/include/doh_write.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(DOH_TOOLS)
  install(TARGETS doh-decode RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/doh)
install(EXPORT doh-targets NAMESPACE doh:: FILE doh-targets.cmake DESTINATION ${package})
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/doh-config.cmake
  "include(CMakeFindDependencyMacro)\nfind_dependency(Threads)\ninclude(\"\${CMAKE_CURRENT_LIST_DIR}/doh-targets.cmake\")\n")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/doh-config.cmake DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/doh-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/doh-config-version.cmake DESTINATION ${package})

configure_file(cpp/cmake/doh.pc.in doh.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/doh.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
