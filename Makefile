.PHONY: interop bench-peers

# Live foreign MLS peers; a missing toolchain is a failure.
interop:
	COMITY_INTEROP=require go test -count=1 -timeout 30m -v ./interop

# The same work on mls and on its peers, one table with ratios.
bench-peers:
	go run ./interop/cmd/benchpeers
