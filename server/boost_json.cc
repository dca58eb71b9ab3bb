// Boost.JSON without its compiled library: its definitions, once for the whole program.
#include <boost/json/src.hpp>
