# The usual tasks; `cargo xtask help` lists all. Builds go to a cache outside of the clone.
export CHORD_CACHE_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/chord-operator
export CARGO_TARGET_DIR ?= $(CHORD_CACHE_DIR)/target

.PHONY: up down env dashboard-url image check test e2e bench prove prove-live
up down env dashboard-url image check test e2e bench prove prove-live:
	@cargo xtask $@
