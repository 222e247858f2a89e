"""The paper's figures, tables, equations and claims, each with our number: `make paper`."""
