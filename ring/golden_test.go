package ring_test

import "berth/lambda"

// golden was computed by an independent program that follows the package's documentation.
var golden = []struct {
	pool  lambda.PoolID
	order []lambda.ManagerID
}{
	{lambda.PoolID{Account: "000000000001"}, []lambda.ManagerID{"manager-8", "manager-2", "manager-9", "manager-0"}},
	{lambda.PoolID{Account: "000000000001", Function: "hello"}, []lambda.ManagerID{"manager-2", "manager-3", "manager-4", "manager-9"}},
	{lambda.PoolID{Account: "000000000002", Function: "hello"}, []lambda.ManagerID{"manager-9", "manager-8", "manager-4", "manager-2"}},
	{lambda.PoolID{Account: "123456789012", Function: "a-much-longer-function-name_with-everything-64-characters-allows"}, []lambda.ManagerID{"manager-6", "manager-5", "manager-4", "manager-7"}},
}
