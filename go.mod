module github.com/comity-im/comity

go 1.26
