"""Parts of tools/compare_llama_cpp. Standard library only."""
