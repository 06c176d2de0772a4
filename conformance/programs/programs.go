// Package programs runs what people run against ZooKeeper, against ZooKeeper and coord.
package programs

import _ "github.com/go-zookeeper/zk"
